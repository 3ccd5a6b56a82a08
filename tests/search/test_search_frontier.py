import copy
import json
from dataclasses import replace

import pytest
import torch
from fakes import CASES, logits

from tome_audio.merge import ComputeTarget
from tome_audio.patch import apply_patch, describe
from tome_audio.search import FitOptions, Ledger, LedgerError, fit_frontier, fit_schedule
from tome_audio.search.divergence import Judge, divergence
from tome_audio.search.space import space_of
from tome_audio.search.speed import Stopwatch, count_matchings

OPTIONS = FitOptions(budget=8, batch_size=16)
TARGETS = [1.5, 2.0, 3.0]


def problem(name="kwt", n_clips=40):
    case = CASES[name]
    generator = torch.Generator().manual_seed(1)
    return case.build().eval(), torch.randn(n_clips, *case.input_shape, generator=generator)


def plain_divergence(model, r, inputs):
    with torch.no_grad():
        return divergence(logits(model(inputs)), logits(apply_patch(copy.deepcopy(model), r)(inputs)))


@pytest.mark.parametrize("name", ["kwt", "ast", "vit_avgpool", "huggingface_sdpa"])
def test_every_target_is_met_and_what_is_said_is_true(name):
    model, inputs = problem(name)
    before = {key: type(module) for key, module in model.named_modules()}
    targets = TARGETS if name == "kwt" else [1.2, 1.3]
    found = fit_frontier(model, inputs, targets, OPTIONS)
    assert {key: type(module) for key, module in model.named_modules()} == before
    assert [entry.target for entry in found] == targets
    for entry in found:
        merged = apply_patch(copy.deepcopy(model), entry.schedule)
        report = describe(merged, CASES[name].n_tokens)
        assert report.macs_cut == entry.macs_cut >= entry.target and not report.is_clamped
        whole = plain_divergence(model, entry.schedule, inputs).mean().item()
        # Ten clips in each part, three parts to fit on.
        assert whole == pytest.approx(0.75 * entry.divergence + 0.25 * entry.divergence_held_out, rel=1e-3)
        assert json.loads(json.dumps(entry.facts()))["n_clips"] == 40


def test_a_schedule_says_what_it_was_fitted_with():
    model, inputs = problem()
    options = replace(OPTIONS, metric="hidden", matching="adjacent")
    (entry,) = fit_frontier(model, inputs, [2.0], options)
    merging = [i for i, r in enumerate(entry.schedule.blocks) if r]
    assert all(entry.schedule.metrics[i] == "hidden" and entry.schedule.matchings[i] == "adjacent" for i in merging)
    with torch.no_grad():
        used = logits(apply_patch(copy.deepcopy(model), entry.schedule)(inputs))
        fitted = logits(apply_patch(copy.deepcopy(model), entry.schedule, metric="hidden", matching="adjacent")(inputs))
    assert torch.equal(used, fitted)


def test_it_is_no_worse_on_its_clips_than_the_shapes_it_starts_from():
    model, inputs = problem()
    options = replace(OPTIONS, budget=40)
    for entry in fit_frontier(model, inputs, [1.7, 2.2], options):
        for shape in ("front-loaded", "decreasing"):
            merged = apply_patch(copy.deepcopy(model), ComputeTarget(entry.target, shape))
            assert describe(merged, 21).macs_cut >= entry.target
            root = plain_divergence(model, entry.schedule, inputs).sqrt().mean()
            assert root < plain_divergence(model, merged.r, inputs).sqrt().mean()


def test_the_seed_decides():
    model, inputs = problem()
    first, again = (fit_frontier(model, inputs, TARGETS, OPTIONS) for _ in range(2))
    assert first == again
    assert fit_frontier(model, inputs, TARGETS, replace(OPTIONS, seed=1)) != first


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 30, 60])
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path, monkeypatch, after):
    model, inputs = problem()
    scored = []
    real = Judge.score

    def score(self, schedule, part):
        if len(scored) == stop:
            raise Killed
        scored.append((schedule, part))
        return real(self, schedule, part)

    monkeypatch.setattr(Judge, "score", score)
    stop = -1
    whole = fit_frontier(model, inputs, TARGETS, OPTIONS)
    n_whole = len(scored)
    scored.clear()
    stop = after
    with pytest.raises(Killed):
        fit_frontier(model, inputs, TARGETS, OPTIONS, ledger=Ledger(tmp_path / "state", every=7))
    stop = -1
    assert fit_frontier(model, inputs, TARGETS, OPTIONS, ledger=Ledger(tmp_path / "state", every=7)) == whole
    assert len(scored) == n_whole


def test_what_a_power_cut_leaves_is_used(tmp_path):
    """Only what was saved every so often is there, and half a file beside it."""
    model, inputs = problem()
    ledger = Ledger(tmp_path / "state", every=5)
    whole = fit_frontier(model, inputs, [2.0], OPTIONS, ledger=ledger)
    state = json.loads((tmp_path / "state").read_text())
    state["results"] = dict(list(state["results"].items())[:10])
    (tmp_path / "state").write_text(json.dumps(state))
    (tmp_path / "state.part").write_text('{"form')
    assert fit_frontier(model, inputs, [2.0], OPTIONS, ledger=Ledger(tmp_path / "state")) == whole


def test_a_state_of_something_else_is_refused(tmp_path):
    model, inputs = problem()
    path = tmp_path / "state"
    fit_schedule_to = lambda **kw: fit_frontier(  # noqa: E731
        kw.get("model", model), kw.get("inputs", inputs), [2.0], kw.get("options", OPTIONS), ledger=Ledger(path)
    )
    fit_schedule_to()
    fit_schedule_to(options=replace(OPTIONS, budget=9))
    before = path.read_bytes()
    other = copy.deepcopy(model)
    other.head.bias.data += 1
    for change, message in (
        ({"options": replace(OPTIONS, seed=3)}, "other settings .seed was 0, now 3.: delete it"),
        ({"inputs": inputs[:39]}, "n_clips was 40, now 39"),
        ({"inputs": inputs + 1}, "another model or other clips"),
        ({"model": other}, "another model or other clips"),
    ):
        with pytest.raises(LedgerError, match=message):
            fit_schedule_to(**change)
        assert path.read_bytes() == before
    path.write_text("{")
    with pytest.raises(LedgerError, match="not the state of a search: delete it"):
        fit_schedule_to()


class Clock:
    """Time that is known: half of it goes with the MACs, each matching adds a little, and the model of time is off."""

    def __init__(self, space, error=1.0):
        self.space, self.error = space, error
        self.asked = []

    def speedup(self, schedule):
        amounts = self.space.amounts(schedule)
        self.asked.append(schedule)
        wrong = self.error if len(self.asked) > 15 else 1.0
        return wrong / (0.2 + 0.8 / self.space.macs_cut(amounts) + 0.01 * count_matchings(amounts, 21, 1))


@pytest.mark.parametrize("error", [1.0, 0.93])
def test_a_target_of_speed_is_met_by_the_clock(monkeypatch, error):
    model, inputs = problem()
    clock = Clock(space_of(apply_patch(copy.deepcopy(model)), inputs), error)
    monkeypatch.setattr(Stopwatch, "speedup", lambda self, schedule: clock.speedup(schedule))
    entry = fit_schedule(model, inputs, 1.8, replace(OPTIONS, unit="speed"))
    assert entry.unit == "speed" and entry.speedup == clock.speedup(replace(entry.schedule, depth=None, n_tokens=None))
    assert 0.99 * 1.8 <= entry.speedup < 2.3 and entry.macs_cut > 1.8


def test_a_speed_out_of_reach_is_named(monkeypatch):
    model, inputs = problem()
    monkeypatch.setattr(Stopwatch, "speedup", lambda self, schedule: 0.7)
    with pytest.raises(ValueError, match="2 times the speed is out of reach"):
        fit_schedule(model, inputs, 2.0, replace(OPTIONS, unit="speed"))


def test_progress_ends_at_the_total():
    seen = []
    model, inputs = problem()
    fit_frontier(model, inputs, [1.5, 2.0], OPTIONS, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1)) and all(done <= total for done, total in seen)


@pytest.mark.parametrize(
    ("targets", "change", "message"),
    [
        ([50.0], {}, "50 times fewer MACs is out of reach for this model with 21 tokens: .* is the most"),
        ([], {}, "at least one target"),
        ([1.0], {}, "target 1.0 is not understood"),
        ([float("nan")], {}, "is not understood"),
        ([True], {}, "is not understood"),
        ([2.0], {"inputs": torch.zeros(3, 20, 10)}, "at least 16 clips, a few hundred are better; got 3"),
    ],
)
def test_bad_input_is_named(targets, change, message):
    model, inputs = problem()
    with pytest.raises(ValueError, match=message):
        fit_frontier(model, change.get("inputs", inputs), targets, OPTIONS)


def test_a_patched_model_is_refused():
    model, inputs = problem()
    with pytest.raises(ValueError, match="remove_patch"):
        fit_frontier(apply_patch(model), inputs, [2.0], OPTIONS)


@pytest.mark.parametrize("bad", [{"unit": "watts"}, {"budget": 0}, {"batch_size": 0}, {"before_matchings": ()}])
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FitOptions(**bad)
