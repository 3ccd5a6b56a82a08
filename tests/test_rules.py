"""Ways to merge compared: the default is the package's own, no token is lost, constants come from other clips."""

import copy
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.models import AST, KWT
from tome_audio.patch import apply_patch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import rules
from merging.catalogue import DEFAULT, before_blocks, in_blocks
from merging.figure import best_of_ideas, chosen, draw, idea, summary
from merging.lab import Lab
from merging.steps import repeated
from merging.view import View
from rules_figure import to_markdown

from tome_audio.merge import ComputeTarget, Schedule

RATES = [3, [9, 2], Schedule((2, 1), (5, 3)), ComputeTarget(3.0, "front-loaded")]
ALL = [*in_blocks(multi_head=True, bands=3), *before_blocks(bands=3)]


def small_kwt():
    torch.manual_seed(0)
    model = KWT(width=16, depth=4, n_heads=2, mlp_width=20, n_frames=19, n_coefficients=4, n_classes=5)
    return model.eval(), torch.randn(3, 19, 4)


def small_ast():
    torch.manual_seed(0)
    size = {"width": 16, "depth": 4, "n_heads": 2, "n_frames": 28, "n_mels": 16, "patch": (8, 4), "fstride": 4}
    model = AST(None, n_classes=5, tstride=4, **size).eval()
    return model, torch.randn(3, 28, 16)


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("build", [small_kwt, small_ast])
def test_the_default_is_what_a_patched_model_does(build, rate):
    model, x = build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    patched = apply_patch(copy.deepcopy(model), rate)
    with torch.inference_mode():
        wanted = patched(x)
    torch.testing.assert_close(Lab(model, x, batch_size=2).answers(rate, DEFAULT), wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("build", [small_kwt, small_ast])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine of value", {"metric": "value"}),
        ("within 1 tokens", {"matching": "adjacent"}),
        ("Ward of hidden cosines^0.5", {"matching": "ward", "metric": "hidden"}),
        ("r in 3 rounds", {"rounds": 3}),
        ("Ward of hidden cosines^0.5, in 4 rounds", {"matching": "ward", "metric": "hidden", "rounds": 4}),
    ],
)
def test_options_of_the_package_are_the_rules_of_that_name(build, name, options):
    model, x = build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rate = Schedule((6, 3, 2), (2,))
    patched = apply_patch(copy.deepcopy(model), rate, **options)
    with torch.inference_mode():
        wanted = patched(x)
    rule = next(rule for rule in ALL if rule.name == name)
    torch.testing.assert_close(Lab(model, x).answers(rate, rule), wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.name)
@given(n=st.integers(2, 12), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_every_token_is_shared_out_whole_and_prefixes_stay(rule, n, share, seed):
    generator = torch.Generator().manual_seed(seed)
    x = {
        name: torch.randn(2, 2 + n, *shape, generator=generator)
        for name, shape in (("hidden", (6,)), ("key", (2, 3)), ("value", (2, 3)), ("query", (2, 3)))
    }
    x["received"] = torch.rand(2, 2 + n, generator=generator)
    place = torch.randint(0, 4, (1, 2 + n, 2), generator=generator).float().expand(2, -1, -1)
    view = View(torch.ones(2, 2 + n), place, 2, x.__getitem__)
    r = max(1, round(share * (n - 1)))
    for step in (rule.blocks, rule.before):
        shares = repeated(step)(view, r)
        assert shares.shape == (2, 2 + n - r, 2 + n)
        torch.testing.assert_close(shares.sum(1), torch.ones(2, 2 + n))
        assert (shares >= 0).all() and (shares.sum(2) > 0).all()
        torch.testing.assert_close(shares[:, :2], torch.eye(2, 2 + n).expand(2, -1, -1))
        assert torch.equal(shares[:, 2:, :2], torch.zeros(2, n - r, 2))


def test_a_rule_that_differs_changes_the_answers_and_the_table_says_how_far():
    model, x = small_ast()
    lab, rate = Lab(model, x), ComputeTarget(2.0)
    plan = [(DEFAULT, [rate]), (next(rule for rule in ALL if rule.name == "mean: keep"), [rate])]
    answers = {(rule.name, "2x"): lab.answers(rate, rule) for rule, _ in plan}
    usual, other = rules.score(lab, torch.tensor([0, 1, 2]), answers, plan, "judge").to_dict("records")
    assert usual["kl_diff"] == 0 and other["kl_diff"] != 0
    assert other["kl"] == pytest.approx(usual["kl"] + other["kl_diff"], abs=2e-5)
    assert usual["macs_cut"] == other["macs_cut"] >= 2


def test_names_are_unique_and_numbers_are_no_part_of_an_idea():
    names = [rule.name for rule in ALL]
    assert len(set(names)) == len(names)
    assert idea("cosine / sizes^0.3") == idea("cosine / sizes^1") == "cosine / sizes^…"


def table_of(*rows):
    out = []
    for part, rule, root_kl in rows:
        diff = {"root_kl_diff": root_kl - 1.0, "root_kl_diff_se": 0.06, "agreement_diff": 0.5, "lost_diff": 0.0}
        out.append({"part": part, "rule": rule, "group": "g", "r": "8", "macs_cut": 2.0, "root_kl": root_kl, **diff})
    return pd.DataFrame(out)


def test_constants_are_chosen_on_the_other_part():
    table = table_of(("choose", "a 1", 0.8), ("choose", "a 2", 0.9), ("judge", "a 1", 1.2), ("judge", "a 2", 0.5))
    assert best_of_ideas(table) == {"a 1": pytest.approx(0.8)}
    (row,) = chosen(table).to_dict("records")
    assert (row["rule"], row["part"], row["ratio"]) == ("a 1", "judge", pytest.approx(1.2))
    (row,) = summary(chosen(table)).to_dict("records")
    assert row["percent"] == pytest.approx(20) and (row["better"], row["worse"], row["schedules"]) == (0, 1, 1)
    assert [label.get_text() for label in draw({"m": chosen(table)}).axes[0].get_yticklabels()] == ["a 1"]


def test_what_was_not_judged_is_shown_as_such():
    table = table_of(("choose", "b", 1.5), ("choose", "a 1", 0.95), ("judge", "a 1", 0.97))
    usual = table_of(("choose", "default", 1.0), ("judge", "default", 1.0)).assign(group="default")
    rows = chosen(pd.concat([usual, table], ignore_index=True))
    assert dict(zip(rows["rule"], rows["part"], strict=True)) == {"default": "judge", "b": "choose", "a 1": "judge"}
    assert [label.get_text() for label in draw({"m": rows}).axes[0].get_yticklabels()] == ["a 1", "b †"]
    assert to_markdown({"m": rows}).splitlines()[2:] == ["| g | a … | -3 % (0, 0 of 1) | +0.50 |"]
