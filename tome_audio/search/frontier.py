"""Schedules for several targets in one run, each a starting point for its neighbours."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tome_audio.merge import SHAPES, ComputeTarget, Schedule, before_matching, resolve_rate
from tome_audio.patch import apply_patch, describe, is_patched
from tome_audio.patch.config import Matching, MergeConfig, Metric
from tome_audio.patch.model import set_r
from tome_audio.search.climb import FIT_PARTS, HELD_OUT, Bench, Goal, choose, climb, name_of
from tome_audio.search.divergence import Judge
from tome_audio.search.ledger import Ledger
from tome_audio.search.moves import Choices
from tome_audio.search.space import Draft, Gain, reach, space_of
from tome_audio.search.speed import Stopwatch, fit_speed, timed_schedules

Unit = Literal["macs", "speed"]
FEWEST_CLIPS = 16

_BACK = 0.4  # of the budget goes into the way back, from the largest target to the smallest
_SPEED_TRIES = 3
_SLACK = 0.99
_OF_THE_SEARCH = ("unit", "budget", "before_matchings", "block_matchings", "block_metrics")
"""Options on which the score of a schedule does not depend."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        unit: what targets count: "macs", MACs of the blocks cut as `describe` counts them, or "speed", measured
            against the unpatched model on this machine, on one batch.
        multi_label: whether each class is a yes or no of its own.
        metric: what similarity is measured on in the blocks.
        matching: which tokens may merge in the blocks.
        before_matchings: which tokens may merge before the first block, to choose from.
        block_matchings: matchings that single blocks may take instead of `matching`.
        block_metrics: metrics that single blocks may take instead of `metric`.
        budget: passes over the fitted clips per target; those of small targets take longest.
        batch_size: clips per forward pass, at most.
        seed: of the draw of clips that are held out, and of the search.

    Raises:
        ValueError: if a number is out of range.
    """

    unit: Unit = "macs"
    multi_label: bool = False
    metric: Metric = "key"
    matching: Matching = "bipartite"
    before_matchings: tuple[str, ...] = ("adjacent", "bipartite")
    block_matchings: tuple[Matching, ...] = ()
    block_metrics: tuple[Metric, ...] = ()
    budget: int = 150
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unit not in ("macs", "speed"):
            raise ValueError(f"unit={self.unit!r} is unknown; choose macs or speed")
        if self.budget < 1 or self.batch_size < 1 or not self.before_matchings:
            raise ValueError("budget and batch_size must be at least 1, and before_matchings must name one")


@dataclass(frozen=True)
class Fitted:
    """A schedule that was fitted, and how that went.

    `divergence` is the mean over the clips it was fitted on, `divergence_held_out` that over the others, in nats.
    `speedup` is what was measured, None where the target counts MACs.
    """

    schedule: Schedule
    target: float
    unit: Unit
    macs_cut: float
    speedup: float | None
    divergence: float
    divergence_held_out: float
    n_clips: int
    n_tokens: int
    n_prefix: int

    def facts(self) -> dict[str, Any]:
        """Return everything but the schedule, as JSON can hold it."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "schedule"}


def fit_schedule(model: nn.Module, inputs: Tensor, target: float, options: FitOptions | None = None) -> Fitted:
    """Fit a schedule to one target; see `fit_frontier`."""
    return fit_frontier(model, inputs, [target], options)[0]


def fit_frontier(
    model: nn.Module,
    inputs: Tensor,
    targets: Sequence[float],
    options: FitOptions | None = None,
    *,
    ledger: Ledger | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Fitted]:
    """Fit schedules to one or several targets: where to merge so that the answers change least.

    Needs no labels: what counts is how far the merged model's answers are from the unmerged model's, as the mean root
    of the divergence per clip. The search goes from small targets to large and back. With `unit="macs"` the same seed
    gives the same schedules.

    Args:
        model: unpatched, in eval mode, maps inputs to logits (B, K); it is left as it is.
        inputs: a few hundred clips as the model takes them, (clips, ...).
        targets: how many times cheaper, each more than 1.
        options: how to fit.
        ledger: keeps what was measured on disk, so that a run that was killed goes on; None keeps it in memory.
        on_progress: called with (scores asked for, scores in all); the second grows where a speed takes longer.

    Returns:
        One result per target, smallest first.

    Raises:
        ValueError: if a target is out of reach (it names the reachable maximum), or there are too few clips.
        LedgerError: if the ledger is of another run.
    """
    options = options or FitOptions()
    wanted = sorted({_check_target(target) for target in targets})
    if not wanted:
        raise ValueError("give at least one target, such as 3.0")
    if is_patched(model):
        raise ValueError("fitting compares with the unpatched model: call remove_patch(model) first")
    if len(inputs) < FEWEST_CLIPS:
        raise ValueError(f"fitting needs at least {FEWEST_CLIPS} clips, a few hundred are better; got {len(inputs)}")
    run = _Run(model, inputs, wanted, options, ledger or Ledger(), on_progress)
    try:
        return run.fit()
    finally:
        run.bench.ledger.save()


class _Run:
    """One call of `fit_frontier`."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: list[float],
        options: FitOptions,
        ledger: Ledger,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.targets, self.options = targets, options
        self.merged = apply_patch(copy.deepcopy(model), metric=options.metric, matching=options.matching)
        self.space = space_of(self.merged, inputs)
        judge = Judge(self.merged, _parts(inputs, options.seed), options.batch_size, options.multi_label)
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((field.name, getattr(options, field.name)) for field in fields(options))
            if name not in _OF_THE_SEARCH
        }
        ledger.open({**settings, "n_clips": len(inputs)}, judge.summary())
        self.n_clips = len(inputs)
        self.per_target = options.budget * len(FIT_PARTS)
        self.total = self.per_target * len(targets)
        self.bench = Bench(judge, ledger, None if on_progress is None else lambda: self._report(on_progress))
        self.watch = Stopwatch(model, self.merged, inputs[: options.batch_size])
        self.aims = {target: target for target in targets}
        self.found: dict[float, list[Schedule]] = {}
        self.gain: Gain = self._gain()

    def fit(self) -> list[Fitted]:
        """Search for every target, on the way out and on the way back, and return the best of each."""
        self._check_reach()
        shares = dict.fromkeys(self.targets[:-1], 1 - _BACK) | {self.targets[-1]: 1.0}
        for target in self.targets:
            self._search(target, "out", shares[target])
        for target in reversed(self.targets[:-1]):
            self._search(target, "back", _BACK)
        return [self._result(target) for target in self.targets]

    def _report(self, on_progress: Callable[[int, int], None]) -> None:
        self.total = max(self.total, self.bench.spent)
        on_progress(self.bench.spent, self.total)

    def _search(self, target: float, way: str, share: float) -> None:
        rng = random.Random(f"{self.options.seed} {target:g} {way}")
        goal = self._goal(target)
        budget = max(1, round(share * self.per_target))
        self.found[target] = climb(self.bench, goal, self._starts(target, goal, rng), budget, rng)
        self.bench.ledger.save()

    def _goal(self, target: float) -> Goal:
        options = self.options
        choices = Choices(options.before_matchings, options.block_matchings, options.block_metrics)
        return Goal(self.aims[target], self.gain, self.space, choices)

    def _starts(self, target: float, goal: Goal, rng: random.Random) -> list[Schedule]:
        """Return what was found before for this target, its neighbours' best and the shapes, brought to the target."""
        at = self.targets.index(target)
        near = [schedule for i in (at - 1, at + 1) if 0 <= i < len(self.targets)
                for schedule in self.found.get(self.targets[i], [])]  # fmt: skip
        starts = list(self.found.get(target, []))
        for schedule in (*near, *self._shapes(goal.target)):
            there = reach(Draft.of(schedule, self.space), goal.target, self.space, self.gain, rng)
            starts += [there] if there is not None else []
        starts = [schedule for schedule in starts if goal.is_met(schedule)]
        return starts or [self.space.harshest()]

    def _shapes(self, macs_cut: float) -> list[Schedule]:
        found = []
        for shape in SHAPES:
            try:
                rate = ComputeTarget(macs_cut, shape)
                amounts = resolve_rate(
                    rate, self.space.n_tokens, self.space.n_prefix, self.space.costs,
                    last_queries=self.space.last_queries,
                )  # fmt: skip
            except ValueError:  # out of reach of this shape
                continue
            matching = before_matching(rate)
            if not amounts.before or matching in self.options.before_matchings:
                found.append(self.space.canonical(Schedule(amounts.blocks, amounts.before, matching)))
        return found

    def _gain(self) -> Gain:
        if self.options.unit == "macs":
            return self.space.macs_cut
        schedules = timed_schedules(self.space)
        return fit_speed(self.space, schedules, [self._speedup(schedule) for schedule in schedules])

    def _speedup(self, schedule: Schedule) -> float:
        return self.bench.ledger.recall(f"speed {name_of(schedule)}", lambda: self.watch.speedup(schedule))

    def _check_reach(self) -> None:
        most = self._most()
        if self.targets[-1] > most:
            what = "fewer MACs" if self.options.unit == "macs" else "the speed"
            raise ValueError(
                f"{self.targets[-1]:g} times {what} is out of reach for this model with {self.space.n_tokens} tokens: "
                f"{most:.2f} is the most; ask for less"
            )

    def _most(self) -> float:
        """Return the largest gain there is; one more round may cost more time than it saves."""
        rounds = self.space.harshest().before
        return max(self.gain(self.space.amounts(Schedule((), rounds[:n]))) for n in range(1, len(rounds) + 1))

    def _result(self, target: float) -> Fitted:
        best = choose(self.bench, self.found[target])
        speedup = None
        if self.options.unit == "speed":
            best, speedup = self._fast_enough(target, best)
        set_r(self.merged, best)
        return Fitted(
            schedule=self.space.bound(self._named(best)),
            target=target,
            unit=self.options.unit,
            macs_cut=describe(self.merged, self.space.n_tokens).macs_cut,
            speedup=speedup,
            divergence=self.bench.divergence(best, FIT_PARTS),
            divergence_held_out=self.bench.divergence(best, (HELD_OUT,)),
            n_clips=self.n_clips,
            n_tokens=self.space.n_tokens,
            n_prefix=self.space.n_prefix,
        )

    def _named(self, schedule: Schedule) -> Schedule:
        """Return the schedule with the metric and matching of every block by name, where they are no defaults.

        A schedule is used with a model that was patched without options.
        """
        defaults = MergeConfig()

        def fill(own: tuple[str, ...], name: str, usual: str) -> tuple[str, ...]:
            if name == usual:
                return own
            padded = (*own, *("",) * (len(schedule.blocks) - len(own)))
            return tuple((said or name) if r else "" for said, r in zip(padded, schedule.blocks, strict=True))

        return replace(
            schedule,
            metrics=fill(schedule.metrics, self.options.metric, defaults.metric),
            matchings=fill(schedule.matchings, self.options.matching, defaults.matching),
        )

    def _fast_enough(self, target: float, best: Schedule) -> tuple[Schedule, float]:
        """Aim higher while the clock says that the schedule is slower than the model of time had it."""
        speedup = self._speedup(best)
        for _ in range(_SPEED_TRIES):
            if speedup >= _SLACK * target:
                break
            self.aims[target] *= min(target / speedup, 1.2)
            self.aims[target] = min(self.aims[target], self._most())
            self._search(target, f"faster {self.aims[target]:.4f}", _BACK)
            best = choose(self.bench, self.found[target])
            speedup = self._speedup(best)
        return best, speedup


def _parts(inputs: Tensor, seed: int) -> list[Tensor]:
    """Return three equal parts to fit on and one to hold out, a quarter of the clips each, drawn at random."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    return [inputs[part.to(inputs.device)] for part in order.tensor_split(len(FIT_PARTS) + 1)]


def _check_target(target: float) -> float:
    if isinstance(target, bool) or not isinstance(target, int | float) or not 1 < target < math.inf:
        raise ValueError(f"target {target!r} is not understood: give a number above 1, such as 3.0")
    return float(target)
