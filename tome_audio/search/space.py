"""Which schedules a model can take, what they save, and how one is brought to exactly what is asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from tome_audio.merge import Amounts, BlockCost, Schedule, clamp_amounts, macs_cut, max_r
from tome_audio.patch.model import merge_config, merged_blocks, set_r, trace

Gain = Callable[[Amounts], float]
"""How many times cheaper than unmerged: what a target is about. Merging more never makes it less."""


@dataclass(frozen=True)
class Space:
    """The schedules of one model: N = `n_tokens` enter, P = `n_prefix` of them stay, `costs` are its blocks'.

    `last_queries` is how many tokens the last block computes, None for all; where it is a number, that block merges
    nothing.
    """

    costs: tuple[BlockCost, ...]
    n_tokens: int
    n_prefix: int
    last_queries: int | None

    @property
    def n_merging(self) -> int:
        """How many blocks can merge."""
        return len(self.costs) - (self.last_queries is not None)

    def amounts(self, schedule: Schedule) -> Amounts:
        """Return what really merges."""
        done = clamp_amounts(schedule, len(self.costs), self.n_tokens, self.n_prefix)
        return Amounts(done.before, (*done.blocks[: self.n_merging], *(0,) * (len(self.costs) - self.n_merging)))

    def macs_cut(self, amounts: Amounts) -> float:
        """Return how many times fewer MACs the blocks take, as `tome_audio.patch.describe` counts them."""
        queries = self.last_queries if amounts.merges else None  # a model that merges nothing is left as it is
        return macs_cut(amounts, self.n_tokens, self.costs, last_queries=queries)

    def canonical(self, schedule: Schedule) -> Schedule:
        """Return the one way to write what really merges: no round of 0, no 0 at the end, no names for nothing."""
        amounts = self.amounts(schedule)
        blocks = list(amounts.blocks)
        while blocks and blocks[-1] == 0:
            blocks.pop()
        before = tuple(r for r in amounts.before if r)
        return Schedule(
            tuple(blocks),
            before,
            schedule.before_matching if before else "adjacent",
            matchings=_names(schedule.matchings, blocks),
            metrics=_names(schedule.metrics, blocks),
        )

    def harshest(self) -> Schedule:
        """Return the schedule that leaves one token behind the prefix before the first block."""
        left, before = self.n_tokens, []
        while r := max_r(left, self.n_prefix):
            before.append(r)
            left -= r
        return Schedule((), tuple(before))

    def bound(self, schedule: Schedule) -> Schedule:
        """Return the schedule with the depth and number of tokens of this model, which it will insist on."""
        return replace(schedule, depth=len(self.costs), n_tokens=self.n_tokens)


def space_of(model: nn.Module, inputs: Tensor) -> Space:
    """Return the space of a patched model for clips like the first of `inputs`; its r stays as it is."""
    before = merge_config(model).r
    set_r(model, 0)
    with trace(model) as traces, torch.inference_mode():
        model(inputs[:1])
    blocks = merged_blocks(model)[0]
    set_r(model, 1)
    queries = blocks.queries_of_last(reading=blocks.reads_prefix)
    set_r(model, before)
    return Space(blocks.costs, traces[0].n_tokens, blocks.n_prefix, queries)


@dataclass
class Draft:
    """A schedule as one list of numbers that may be changed: those of the rounds, then those of the blocks.

    `matchings` and `metrics` name what blocks have of their own, by their number.
    """

    values: list[int]
    n_rounds: int
    matching: str
    matchings: dict[int, str] = field(default_factory=dict)
    metrics: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, schedule: Schedule, space: Space) -> Draft:
        """Return the draft of a schedule, with a number for each block that can merge."""
        blocks = [*schedule.blocks, *(0,) * len(space.costs)][: space.n_merging]
        own = (dict(enumerate(names)) for names in (schedule.matchings, schedule.metrics))
        return cls([*schedule.before, *blocks], len(schedule.before), schedule.before_matching, *own)

    def schedule(self) -> Schedule:
        """Return the schedule of these numbers."""
        blocks = tuple(self.values[self.n_rounds :])
        named = ([names.get(i, "") for i in range(len(blocks))] for names in (self.matchings, self.metrics))
        matchings, metrics = (_names(names, blocks) for names in named)
        return Schedule(
            blocks, tuple(self.values[: self.n_rounds]), self.matching, matchings=matchings, metrics=metrics
        )

    def with_values(self, values: Sequence[int]) -> Draft:
        """Return a draft with other numbers."""
        return Draft(list(values), self.n_rounds, self.matching, self.matchings, self.metrics)


def reach(
    draft: Draft, target: float, space: Space, gain: Gain, rng: random.Random, kept: int | None = None
) -> Schedule | None:
    """Return the draft with no more merging than the target takes, and no less; None where it cannot be brought there.

    Numbers change one after the other in random order, or all by one factor.

    Args:
        draft: where to start from.
        target: the least gain.
        space: of the model.
        gain: what counts.
        rng: the source of chance.
        kept: the number that changes last.
    """
    others = [i for i in range(len(draft.values)) if i != kept]
    rng.shuffle(others)
    order = others if kept is None else [*others, kept]

    def enough(values: Sequence[int]) -> bool:
        return gain(space.amounts(draft.with_values(values).schedule())) >= target

    def least(values: Sequence[int], i: int, low: int, high: int) -> int:
        """Return the least value at place i with which the values are enough."""
        return _least(low, high, lambda value: enough([*values[:i], value, *values[i + 1 :]]))

    values = list(draft.values)
    if rng.random() < 0.4:
        values = _scaled(values, others, enough)
    for i in order:
        if enough(values):
            break
        if enough([*values[:i], space.n_tokens, *values[i + 1 :]]):
            values[i] = least(values, i, values[i] + 1, space.n_tokens)
        else:  # not by this one alone
            values[i] += max(1, values[i] // 2)
    if not enough(values):
        return None
    done = space.amounts(draft.with_values(values).schedule())
    values = [*done.before, *done.blocks[: space.n_merging]]
    for i in order:
        values[i] = least(values, i, 0, values[i])
    return space.canonical(draft.with_values(values).schedule())


def _names(names: Sequence[str], blocks: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the blocks that merge, "" for the others and nothing after the last of them."""
    kept = [name if r else "" for name, r in zip(names, blocks, strict=False)]
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the least number in low .. high for which it holds; it holds for `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _scaled(values: list[int], others: list[int], enough: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return the numbers with `others` multiplied by the least factor that is enough, as they are where none is."""

    def times(hundredths: int) -> list[int]:
        return [value * hundredths // 100 if i in others else value for i, value in enumerate(values)]

    most = 800
    return times(_least(0, most, lambda factor: enough(times(factor)))) if enough(times(most)) else values
