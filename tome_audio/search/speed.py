"""What a schedule gains on this machine: a small model of time, fitted to a few schedules that were timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.merge import (
    SHAPES,
    Amounts,
    ComputeTarget,
    Schedule,
    before_matching,
    encoder_macs,
    max_r,
    resolve_rate,
)
from tome_audio.patch.model import set_r
from tome_audio.profiling import interleaved, ratio
from tome_audio.search.space import Space

_CUTS = (1.3, 2.0, 3.0, 4.5, 7.0)


def count_matchings(amounts: Amounts, n_tokens: int, n_prefix: int) -> int:
    """Return how many matchings a schedule takes when N = `n_tokens` enter: each costs the same few operations."""
    n_matchings = sum(1 for r in amounts.before if r)
    left = n_tokens - sum(amounts.before)
    for r in amounts.blocks:
        while r > 0:
            step = min(r, max_r(left, n_prefix))
            left, r, n_matchings = left - step, r - step, n_matchings + 1
    return n_matchings


@dataclass(frozen=True)
class SpeedModel:
    """Time as a share of the unmerged model's: `macs_share` of it shrinks with the MACs, each matching adds some."""

    space: Space
    fixed: float
    macs_share: float
    per_matching: float

    def __call__(self, amounts: Amounts) -> float:
        """Return how many times faster than unmerged a schedule should be."""
        return 1.0 / _time(self.space, amounts, (self.fixed, self.macs_share, self.per_matching))


class Stopwatch:
    """Times schedules against the unpatched model, in turns, on one batch."""

    def __init__(self, model: nn.Module, merged: nn.Module, batch: Tensor, turns: int = 9) -> None:
        self.model = model
        self.merged = merged
        self.batch = batch
        self.turns = turns

    @torch.inference_mode()
    def speedup(self, schedule: Schedule) -> float:
        """Return the median over turns of unpatched seconds / merged seconds."""
        set_r(self.merged, schedule)
        calls: dict[str, Callable[[], Any]] = {
            "unpatched": lambda: self.model(self.batch),
            "merged": lambda: self.merged(self.batch),
        }
        seconds = interleaved(calls, turns=self.turns)
        return ratio(seconds["unpatched"], seconds["merged"]).median


def timed_schedules(space: Space) -> list[Schedule]:
    """Return schedules of all shapes and strengths, to fit a `SpeedModel` to."""
    found = []
    for shape in SHAPES:
        for cut in _CUTS:
            try:
                rate = ComputeTarget(cut, shape)
                amounts = resolve_rate(
                    rate, space.n_tokens, space.n_prefix, space.costs,
                    last_queries=space.last_queries,
                )  # fmt: skip
            except ValueError:  # out of reach of this shape
                continue
            found.append(space.canonical(Schedule(amounts.blocks, amounts.before, before_matching(rate))))
    return list(dict.fromkeys(found))


def fit_speed(space: Space, schedules: Sequence[Schedule], speedups: Sequence[float]) -> SpeedModel:
    """Return the model of time that is nearest to what was measured; no share of it is negative."""
    amounts = [space.amounts(schedule) for schedule in schedules]
    rows = torch.tensor([_features(space, entry) for entry in amounts], dtype=torch.float64)
    times = 1 / torch.tensor(speedups, dtype=torch.float64)
    columns = [0, 1, 2]
    while True:
        # Relative errors count: a fast schedule is not less worth to be right about.
        weights = (1 / times)[:, None]
        found = torch.linalg.lstsq(rows[:, columns] * weights, times[:, None] * weights).solution[:, 0].tolist()
        if min(found) >= 0 or len(columns) == 1:
            break
        columns.pop(found.index(min(found)))
    shares = dict(zip(columns, found, strict=True))
    return SpeedModel(space, *(max(0.0, shares.get(column, 0.0)) for column in range(3)))


def _features(space: Space, amounts: Amounts) -> tuple[float, float, float]:
    whole = encoder_macs(space.costs, [space.n_tokens] * (len(space.costs) + 1))
    macs = encoder_macs(space.costs, amounts.tokens(space.n_tokens), last_queries=space.last_queries)
    return 1.0, macs / whole, float(count_matchings(amounts, space.n_tokens, space.n_prefix))


def _time(space: Space, amounts: Amounts, shares: tuple[float, float, float]) -> float:
    return sum(share * feature for share, feature in zip(shares, _features(space, amounts), strict=True))
