import random

import pytest
import torch
from fakes import CASES

import tome_audio.patch.state as state
from tome_audio.merge import MATCHINGS, BlockCost, Schedule
from tome_audio.patch import apply_patch
from tome_audio.search.space import Space, space_of
from tome_audio.search.speed import SpeedModel, Stopwatch, count_matchings, fit_speed, timed_schedules

SPACE = Space((BlockCost(4 * 64, 8 * 64, 64, 2 * 64),) * 6, 99, 1, 1)


def test_matchings_are_counted_as_the_model_makes_them(monkeypatch):
    made = []
    counted = {
        name: lambda *args, match=match, **kwargs: made.append(args[1]) or match(*args, **kwargs)
        for name, match in MATCHINGS.items()
    }
    monkeypatch.setattr(state, "MATCHINGS", counted)
    x = torch.randn(1, *CASES["kwt"].input_shape)
    model = apply_patch(CASES["kwt"].build().eval())
    space = space_of(model, x)
    for schedule in (Schedule((3, 2)), Schedule((19,)), Schedule((4, 3), (10, 2)), Schedule((), (10, 5, 2))):
        made.clear()
        model.r = schedule
        model(x)
        assert count_matchings(space.amounts(schedule), space.n_tokens, space.n_prefix) == len(made) > 0


@pytest.mark.parametrize("truth", [(0.1, 0.9, 0.02), (0.0, 1.0, 0.0), (0.3, 0.5, 0.0)])
def test_the_model_of_time_is_found_again(truth):
    wanted = SpeedModel(SPACE, *truth)
    schedules = timed_schedules(SPACE)
    assert len(schedules) > 6
    found = fit_speed(SPACE, schedules, [wanted(SPACE.amounts(schedule)) for schedule in schedules])
    assert (found.fixed, found.macs_share, found.per_matching) == pytest.approx(truth, abs=1e-9)


def test_no_share_of_time_is_negative():
    rng, schedules = random.Random(0), timed_schedules(SPACE)
    for _ in range(20):
        found = fit_speed(SPACE, schedules, [rng.uniform(0.5, 8) for _ in schedules])
        shares = (found.fixed, found.macs_share, found.per_matching)
        assert min(shares) >= 0 and sum(shares) > 0


def test_a_stopwatch_measures_a_ratio():
    model = CASES["kwt"].build().eval()
    batch = torch.randn(2, *CASES["kwt"].input_shape)
    taken = Stopwatch(model, apply_patch(CASES["kwt"].build().eval()), batch, turns=3).speedup(Schedule((3,)))
    assert 0 < taken < float("inf")
