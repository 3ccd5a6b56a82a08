"""A local search for one target: change a good schedule, race the change against it, keep the best few."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tome_audio.merge import Schedule
from tome_audio.search.divergence import Judge, Score
from tome_audio.search.ledger import Ledger
from tome_audio.search.moves import Choices, propose
from tome_audio.search.space import Gain, Space

FIT_PARTS = (0, 1, 2)
"""The thirds of the clips a schedule is fitted on."""
HELD_OUT = 3
"""The clips that decide between the best few."""

_KEPT = 6
_MARGIN = 1.03
_IDLE = 300


class Bench:
    """Scores of schedules on parts of the clips; counts what a search has asked for, whoever computed it."""

    def __init__(self, judge: Judge, ledger: Ledger, on_spent: Callable[[], None] | None = None) -> None:
        self.judge = judge
        self.ledger = ledger
        self.on_spent = on_spent
        self.spent = 0
        self.scores: dict[tuple[Schedule, int], Score] = {}

    def score(self, schedule: Schedule, part: int) -> Score:
        """Return the score on one part of the clips."""
        key = (schedule, part)
        if key not in self.scores:
            name = f"{part} {name_of(schedule)}"
            self.scores[key] = Score(*self.ledger.recall(name, lambda: list(self.judge.score(schedule, part))))
            self.spent += 1
            if self.on_spent is not None:
                self.on_spent()
        return self.scores[key]

    def mean(self, schedule: Schedule, parts: Iterable[int] = FIT_PARTS) -> float:
        """Return what the search goes by, the mean root over parts."""
        found = [self.score(schedule, part).root for part in parts]
        return sum(found) / len(found)

    def divergence(self, schedule: Schedule, parts: Iterable[int]) -> float:
        """Return the mean divergence over parts."""
        found = [self.score(schedule, part).divergence for part in parts]
        return sum(found) / len(found)

    def is_known(self, schedule: Schedule) -> bool:
        """Return whether the schedule has been raced before."""
        return (schedule, FIT_PARTS[0]) in self.scores


@dataclass(frozen=True)
class Goal:
    """What one search is for: the least gain, how it is counted, and the names it may choose from."""

    target: float
    gain: Gain
    space: Space
    choices: Choices

    def is_met(self, schedule: Schedule) -> bool:
        """Return whether the schedule gains enough."""
        return self.gain(self.space.amounts(schedule)) >= self.target


def name_of(schedule: Schedule) -> str:
    """Return the numbers of a schedule as text."""
    before, blocks = (",".join(map(str, numbers)) for numbers in (schedule.before, schedule.blocks))
    own = [",".join(names) for names in (schedule.matchings, schedule.metrics) if names]
    return " ".join([f"{schedule.before_matching} {before}|{blocks}", *own])


def climb(bench: Bench, goal: Goal, starts: Iterable[Schedule], budget: int, rng: random.Random) -> list[Schedule]:
    """Return the best few schedules that were found, best first.

    Args:
        bench: gives scores.
        goal: what to reach.
        starts: schedules that reach it, at least one.
        budget: how many scores of one third of the clips may be asked for, starts included.
        rng: the source of chance.
    """
    until = bench.spent + budget
    best: list[tuple[float, Schedule]] = []
    for start in dict.fromkeys(starts):
        _race(bench, start, best)
    idle = 0
    while bench.spent < until and idle < _IDLE:
        parent = best[min(int(rng.expovariate(0.9)), len(best) - 1)][1]
        child = propose(parent, goal.target, goal.space, goal.gain, rng, goal.choices)
        if child is None or bench.is_known(child):
            idle += 1
            continue
        idle = 0
        _race(bench, child, best)
    return [schedule for _, schedule in best]


def choose(bench: Bench, best: list[Schedule]) -> Schedule:
    """Return the schedule of the best few that is best over all clips, those held out included."""
    return min(best, key=lambda schedule: bench.mean(schedule, (*FIT_PARTS, HELD_OUT)))


def _race(bench: Bench, schedule: Schedule, best: list[tuple[float, Schedule]]) -> None:
    """Add the schedule to the best few if it belongs there; it drops out as soon as it is clearly worse than all."""
    if len(best) == _KEPT:
        last = best[-1][1]
        for n_parts in range(1, len(FIT_PARTS)):
            parts = FIT_PARTS[:n_parts]
            if bench.mean(schedule, parts) > _MARGIN * bench.mean(last, parts):
                return
    score = bench.mean(schedule)
    if any(schedule == known for _, known in best):
        return
    best.append((score, schedule))
    best.sort(key=lambda entry: entry[0])
    del best[_KEPT:]
