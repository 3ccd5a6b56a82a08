"""Schedules with rounds before the first block, repeated matching, and compute targets, on every family."""

import copy
import json

import pytest
import torch
from fakes import CASES, DEPTH, logits

from tome_audio.merge import ComputeTarget, Schedule, SimilarityThreshold
from tome_audio.models import AST
from tome_audio.patch import MergeConfig, apply_patch, describe, reachable_target, remove_patch, trace

FAMILIES = [name for name in CASES if name != "vit_attention_pool"]


def build(name):
    case = CASES[name]
    return case.build().eval(), torch.randn(2, *case.input_shape, generator=torch.Generator().manual_seed(1)), case


@torch.no_grad()
def run(model, x):
    return logits(model(x))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("matching", ["adjacent", "bipartite"])
def test_rounds_before_the_first_block(name, matching):
    model, x, case = build(name)
    n_patches = case.n_tokens - case.n_prefix
    schedule = Schedule((1, 0, 0), (n_patches // 2, 1), matching)
    apply_patch(model, schedule, prefix_only=False)
    with trace(model) as traces:
        run(model, x)
    left = case.n_tokens - n_patches // 2 - 1
    assert traces[0].tokens == [left, left - 1, left - 1, left - 1] == list(describe(model, case.n_tokens).tokens)
    assert describe(model, case.n_tokens).before == (n_patches // 2, 1)
    assign = traces[0].plan(0).assign
    assert assign.shape == (2, case.n_tokens) and assign.max() == left - 2
    assert torch.equal(traces[0].sizes[-1].sum(1), torch.full((2,), float(case.n_tokens)))


@pytest.mark.parametrize("name", CASES)
def test_most_of_the_tokens_in_one_block(name):
    model, x, case = build(name)
    n_patches = case.n_tokens - case.n_prefix
    apply_patch(model, Schedule((n_patches - 1,)), prefix_only=False)
    with trace(model) as traces:
        output = run(model, x)
    assert traces[0].tokens[1] == case.n_prefix + 1 and output.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_a_target_is_what_describe_reports(name):
    model, x, case = build(name)
    apply_patch(model)
    before = run(model, x)
    model.r = ComputeTarget(1.3)
    report = describe(model, case.n_tokens)
    assert report.macs_cut >= 1.3 and not report.is_clamped
    with trace(model) as traces:
        assert not torch.equal(run(model, x), before)
    assert traces[0].tokens == list(report.tokens)
    model.r = ComputeTarget(1)
    assert torch.equal(run(model, x), before)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("r", [0, 2])
def test_the_reachable_target_is_reached_whatever_r_is(name, r):
    case = CASES[name]
    model = apply_patch(case.build().eval(), r)
    most = reachable_target(model, case.n_tokens)
    assert most > 1
    model.r = ComputeTarget(most)
    assert describe(model, case.n_tokens).macs_cut == pytest.approx(most)
    model.r = ComputeTarget(most * 1.001)
    with pytest.raises(ValueError, match="is the most"):
        describe(model, case.n_tokens)


@pytest.mark.parametrize("n_tokens", [0, -3])
@pytest.mark.parametrize("ask", [describe, reachable_target])
def test_no_tokens_are_nothing_to_report_on(ask, n_tokens):
    model = apply_patch(next(iter(CASES.values())).build())
    with pytest.raises(ValueError, match=f"n_tokens must be at least 1.*{n_tokens}"):
        ask(model, n_tokens)


@pytest.mark.parametrize("name", CASES)
def test_a_target_takes_the_shape_that_suits_the_patches(name):
    model, _, case = build(name)
    apply_patch(model, ComputeTarget(1.3))
    report = describe(model, case.n_tokens)
    on_grid = name != "kwt"  # every other case cuts a picture or a spectrogram into rows and columns
    assert report.before_matching == ("bipartite" if on_grid else "adjacent")
    model.r = ComputeTarget(1.3, "rounds" if on_grid else "front-loaded")
    assert describe(model, case.n_tokens) == report
    model.r = ComputeTarget(1.3, "front-loaded" if on_grid else "rounds")
    assert describe(model, case.n_tokens) != report


def test_a_projection_that_was_replaced_makes_the_grid_unknown():
    model = build("ast_original_layout")[0]
    apply_patch(model, ComputeTarget(1.3))
    assert describe(model, 26).before_matching == "bipartite"
    remove_patch(model)
    model.v.patch_embed.proj = torch.nn.Conv2d(1, 48, (64, 4), (64, 4))
    apply_patch(model, ComputeTarget(1.3))
    assert describe(model, 26).before_matching == "adjacent"


def test_a_model_patched_before_grids_were_known_still_runs():
    model, x, case = build("vit")
    apply_patch(model, ComputeTarget(1.3, "front-loaded"))
    expected = run(model, x)
    del next(m for m in model.modules() if hasattr(m, "queries_of_last")).__dict__["grid_rows"]
    assert torch.equal(run(model, x), expected) and describe(model, case.n_tokens).macs_cut >= 1.3


def test_blocks_that_were_taken_away_are_noticed():
    model, _, _ = build("vit")
    apply_patch(model, 1)
    del model.blocks[-1]
    with pytest.raises(ValueError, match="blocks were added or removed"):
        model.r = 2


def test_patches_that_span_all_frequencies_follow_each_other_in_time():
    model = AST(None, width=48, depth=3, n_heads=3, n_classes=5, n_mels=32, n_frames=96, patch=(32, 4), fstride=32)
    apply_patch(model.eval(), ComputeTarget(1.3))
    assert describe(model, 12).before_matching == "adjacent"


def test_a_target_depends_on_the_number_of_tokens():
    model, _, _ = build("vit")
    apply_patch(model, ComputeTarget(2.0))
    short, long = describe(model, 17), describe(model, 197)
    assert sum(long.before) > sum(short.before) and abs(long.macs_cut - 2) < abs(short.macs_cut - 2) + 0.1


def test_out_of_reach_is_said_by_the_call():
    model, x, _ = build("vit")
    apply_patch(model, ComputeTarget(500.0))
    with pytest.raises(ValueError, match="is the most"):
        model(x)


@pytest.mark.parametrize("name", ["vit", "ast", "huggingface_sdpa", "kwt"])
def test_gradient_checkpointing_sees_the_same_rounds(name):
    model, x, case = build(name)
    apply_patch(model, Schedule((2, 1), (2,)))
    other = copy.deepcopy(model)
    logits(model(x)).square().sum().backward()
    other.train()
    case.checkpointing(other, True)
    logits(other(x)).square().sum().backward()
    for (parameter, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), parameter
        assert one.grad is None or torch.allclose(one.grad, two.grad, atol=1e-6), parameter


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("option", ["metric", "matching"])
def test_blocks_with_a_metric_or_matching_of_their_own(name, option):
    model, x, _ = build(name)
    other, field = {"metric": ("hidden", "metrics"), "matching": ("adjacent", "matchings")}[option]
    both = run(apply_patch(model, Schedule((3, 2), **{field: (other, other)})), x)
    assert torch.equal(both, run(apply_patch(model, [3, 2], **{option: other}), x))
    assert not torch.equal(both, run(apply_patch(model, [3, 2]), x))
    second = run(apply_patch(model, Schedule((3, 2), **{field: ("", other)})), x)
    default = {"metric": "key", "matching": "bipartite"}[option]
    first = apply_patch(model, Schedule((3, 2), **{field: (default,)}), **{option: other})
    assert torch.equal(second, run(first, x))


def test_names_of_blocks_are_checked():
    model, _, _ = build("vit")
    apply_patch(model)
    with pytest.raises(ValueError, match="a block's metric='keys' is unknown; choose one of , key"):
        model.r = Schedule((1,), metrics=("keys",))
    with pytest.raises(ValueError, match="a block's matching='nearest' is unknown"):
        model.r = Schedule((1,), matchings=("nearest",))
    with pytest.raises(ValueError, match=f"lists {DEPTH + 1} layers but the model has {DEPTH}"):
        model.r = Schedule((1,), matchings=("adjacent",) * (DEPTH + 1))
    with pytest.raises(ValueError, match="must be a list of names"):
        Schedule((1,), matchings="adjacent")


@pytest.mark.parametrize(
    "rate",
    [
        Schedule((2, 1), (3,), "bipartite"),
        Schedule((2, 1), matchings=("", "adjacent"), metrics=("value",)),
        ComputeTarget(1.5, "constant"),
        SimilarityThreshold((0.9, 0.8), (0.95,), 0.25),
    ],
)
def test_the_config_survives_json(rate):
    config = MergeConfig(r=rate)
    assert MergeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="r has unknown parts"):
        MergeConfig.from_dict({"r": {**config.to_dict()["r"], "extra": 1}})


def test_a_schedule_for_more_blocks_is_refused():
    model, _, _ = build("vit")
    with pytest.raises(ValueError, match=f"lists {DEPTH + 1} layers but the model has {DEPTH}"):
        apply_patch(model, Schedule((1,) * (DEPTH + 1)))


def test_a_slice_that_begins_later_is_refused():
    model, x, _ = build("vit")
    apply_patch(model, ComputeTarget(1.5))
    with pytest.raises(ValueError, match="cannot know what was merged before"):
        model.blocks[1:](x)


def test_it_compiles_in_one_graph():
    model, x, _ = build("vit")
    apply_patch(model, ComputeTarget(1.4))
    expected = run(model, x)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(run(compiled, x), expected, atol=1e-5)


def test_slices_run_the_amounts_of_their_own_blocks():
    model, _, _ = build("vit")
    apply_patch(model, [0, 0, 5])
    tokens = torch.randn(1, 17, 48)
    assert torch.equal(model.blocks[1:](model.blocks[:1](tokens)), model.blocks(tokens))
    assert model.blocks[2:](tokens).shape[1] == 12
