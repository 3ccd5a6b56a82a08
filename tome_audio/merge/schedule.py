"""How many tokens to merge where: what a user may write for r, and what it comes to for a given number of tokens."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from tome_audio.merge.schedule_file import read_schedule, write_schedule
from tome_audio.merge.threshold import SimilarityThreshold


class Amounts(NamedTuple):
    """What really merges: tokens in each round before the first block, and tokens in each block."""

    before: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def merges(self) -> bool:
        """Whether anything merges at all."""
        return any(self.before) or any(self.blocks)

    def tokens(self, n_tokens: int) -> tuple[int, ...]:
        """Return the tokens entering each block and, last, those leaving, when N = `n_tokens` enter the rounds."""
        counts = [n_tokens - sum(self.before)]
        for r in self.blocks:
            counts.append(counts[-1] - r)
        return tuple(counts)


@dataclass(frozen=True)
class Schedule:
    """How many tokens merge where: in rounds before the first block, then in each block.

    Attributes:
        blocks: tokens merged in each block, 0 after the end; more than half of them take repeated matching.
        before: tokens merged in each round before the first block, on the tokens themselves; half at most per round.
        before_matching: which tokens may merge before the first block: "adjacent" or "bipartite".
        depth: how many blocks the model has that it was made for; None fits any with enough of them.
        n_tokens: how many tokens, prefix included, enter that model; None fits any number.
        matchings: the matching of each block; "" and everything after the end mean that of `apply_patch`.
        metrics: the metric of each block, likewise.

    Raises:
        ValueError: if a number is negative, or the matching is not one of the two.
    """

    blocks: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    before_matching: str = "adjacent"
    depth: int | None = None
    n_tokens: int | None = None
    matchings: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("blocks", "before"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ValueError(f"{name}={values!r} of a Schedule must be a list of whole numbers >= 0")
            object.__setattr__(self, name, tuple(_check_count(value, values) for value in values))
        if self.before_matching not in ("adjacent", "bipartite"):
            raise ValueError(f"before_matching={self.before_matching!r} is unknown; choose adjacent or bipartite")
        for name in ("matchings", "metrics"):
            values = getattr(self, name)
            if (
                isinstance(values, str)
                or not isinstance(values, Sequence)
                or not all(isinstance(v, str) for v in values)
            ):
                raise ValueError(f"{name}={values!r} of a Schedule must be a list of names, one per block")
            object.__setattr__(self, name, tuple(values))
        for name in ("depth", "n_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r} of a Schedule must be a whole number >= 1, or None")

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Return the schedule in a JSON file, as `save` or `tome-audio fit` wrote it.

        Raises:
            ValueError: if the file is absent, or holds no schedule.
        """
        fields, _ = read_schedule(path)
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is a damaged schedule: {error}") from error

    def save(self, path: str | Path, fitted: dict[str, Any] | None = None) -> None:
        """Write the schedule as JSON, whole or not at all; `fitted` tells people how it was found.

        Raises:
            OSError: if the folder cannot be written.
        """
        write_schedule(path, asdict(self), fitted)


SHAPES = ("front-loaded", "rounds", "decreasing", "constant")
AUTO = "auto"


@dataclass(frozen=True)
class ComputeTarget:
    """So many times fewer multiply-accumulates in the encoder's blocks, merged in a shape that needs no data.

    Attributes:
        macs_cut: how many times fewer, at least 1.
        shape: "front-loaded" (neighbours before the first block, then less from block to block), "rounds" (all before
            the first block, in six rounds among all tokens), "decreasing" (linear from block to block, to 0) or
            "constant" (the same in each block). "auto" is "rounds" where patches lie on a grid of time and frequency,
            and "front-loaded" where tokens follow each other in time.

    Raises:
        ValueError: if the target is below 1 or not finite, or the shape is unknown.
    """

    macs_cut: float
    shape: str = AUTO

    def __post_init__(self) -> None:
        cut = self.macs_cut
        if isinstance(cut, bool) or not isinstance(cut, Real) or not 1 <= float(cut) < math.inf:
            raise ValueError(
                f"ComputeTarget({cut!r}) is not understood: give a number >= 1, such as 2.0 for half the MACs"
            )
        object.__setattr__(self, "macs_cut", float(cut))
        if self.shape not in (AUTO, *SHAPES):
            raise ValueError(f"shape={self.shape!r} is unknown; choose one of {', '.join((AUTO, *SHAPES))}")

    def on_grid(self, rows: int) -> str:
        """Return the shape for a model whose patches lie in so many rows of frequency; 1: one token after the other."""
        if self.shape != AUTO:
            return self.shape
        return "rounds" if rows > 1 else "front-loaded"


Rate = int | list[int] | tuple[int, float] | Schedule | ComputeTarget | SimilarityThreshold
"""What a user may write for r: one number for every layer, a list with one number per layer (short lists go on with
0), a tuple (r, inflection) as in the ToMe paper, a `Schedule`, a `ComputeTarget` or a `SimilarityThreshold`."""


def check_rate(r: Any) -> Rate:
    """Return `r` as plain Python numbers: int, list of int, or the tuple (int, float); a Schedule or target as it is.

    Raises:
        ValueError: if `r` is none of these, negative, or its inflection is outside [-1, 1].
    """
    if isinstance(r, Schedule | ComputeTarget | SimilarityThreshold):
        return r
    if isinstance(r, tuple):
        if len(r) != 2 or isinstance(r[1], bool) or not isinstance(r[1], Real) or not -1 <= float(r[1]) <= 1:
            raise ValueError(
                f"r={r!r} is a tuple, and a tuple means (r, inflection) with an inflection from -1 to 1; "
                "write a list for one number per layer"
            )
        return _check_count(r[0], r), float(r[1])
    if isinstance(r, Sequence) and not isinstance(r, str):
        return [_check_count(value, r) for value in r]
    return _check_count(r, r)


def expand_schedule(r: Rate, depth: int) -> tuple[int, ...]:
    """Return the number of tokens to merge in each of `depth` layers, before any clamping.

    A tuple (r, i) goes linearly from int(r (1 - i)) to 2 r - int(r (1 - i)), each layer rounded down (arXiv
    2210.09461, appendix; i = -1 decreases from 2 r to 0). A list shorter than `depth` goes on with 0.

    Raises:
        ValueError: if `r` is malformed or a list has more than `depth` numbers,
            or a schedule was made for another number of blocks.
    """
    rate = check_rate(r)
    if isinstance(rate, ComputeTarget):
        raise ValueError("what a ComputeTarget merges depends on the number of tokens: see resolve_rate")
    if isinstance(rate, SimilarityThreshold):
        raise ValueError("what a SimilarityThreshold merges depends on the clip: run the model and trace it")
    if isinstance(rate, int):
        return (rate,) * depth
    if isinstance(rate, list | Schedule):
        if isinstance(rate, Schedule) and rate.depth not in (None, depth):
            raise ValueError(
                f"this schedule was made for a model of {rate.depth} blocks, but this one has {depth}; "
                "fit one for this model (tome-audio fit)"
            )
        numbers = tuple(rate.blocks if isinstance(rate, Schedule) else rate)
        named = (len(rate.matchings), len(rate.metrics)) if isinstance(rate, Schedule) else ()
        if max(len(numbers), *named, 0) > depth:
            raise ValueError(
                f"r lists {max(len(numbers), *named, 0)} layers but the model has {depth}; shorten the list"
            )
        return numbers + (0,) * (depth - len(numbers))
    mean, inflection = rate
    if depth == 1:
        return (mean,)
    start = int(mean * (1 - inflection))
    step = (2 * mean - 2 * start) / (depth - 1)
    # 1e-9: a step such as -32/11 must not turn the last 0 into -1 by rounding.
    return tuple(max(0, math.floor(start + step * layer + 1e-9)) for layer in range(depth))


def max_r(n_tokens: int, n_prefix: int) -> int:
    """Return the most tokens one matching can merge: half of those that are not prefix tokens."""
    return max(0, n_tokens - n_prefix) // 2


def clamp_r(r: int, n_tokens: int, n_prefix: int) -> int:
    """Return `r` or the most that N tokens with P prefix tokens allow, whichever is smaller."""
    return min(r, max_r(n_tokens, n_prefix))


def clamp_schedule(schedule: Sequence[int], n_tokens: int, n_prefix: int) -> tuple[int, ...]:
    """Return what each layer really merges when N tokens with P prefix tokens enter the first."""
    done = []
    for r in schedule:
        done.append(clamp_r(r, n_tokens, n_prefix))
        n_tokens -= done[-1]
    return tuple(done)


def clamp_amounts(schedule: Schedule, depth: int, n_tokens: int, n_prefix: int) -> Amounts:
    """Return what a schedule really merges when N tokens with P prefix tokens enter.

    A round before the first block merges half of them at most. A block merges all but one, by repeated matching.

    Raises:
        ValueError: if the schedule lists more than `depth` blocks, or was made for another model.
    """
    if schedule.n_tokens not in (None, n_tokens):
        raise ValueError(
            f"this schedule was made for {schedule.n_tokens} tokens, but {n_tokens} enter this model; "
            "fit one for this model and clip length (tome-audio fit)"
        )
    before = clamp_schedule(schedule.before, n_tokens, n_prefix)
    n_tokens -= sum(before)
    blocks = []
    for r in expand_schedule(schedule, depth):
        blocks.append(min(r, max(0, n_tokens - n_prefix - 1)))
        n_tokens -= blocks[-1]
    return Amounts(before, tuple(blocks))


def tokens_per_layer(schedule: Sequence[int], n_tokens: int, n_prefix: int) -> tuple[int, ...]:
    """Return the tokens entering each layer and, last, those leaving: depth + 1 numbers."""
    counts = [n_tokens]
    for r in clamp_schedule(schedule, n_tokens, n_prefix):
        counts.append(counts[-1] - r)
    return tuple(counts)


def _check_count(value: Any, given: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if isinstance(value, bool) or count < 0:
        raise ValueError(
            f"r={given!r} is not understood: give a whole number >= 0, a list of them (one per layer), "
            "a tuple (r, inflection), a Schedule, a ComputeTarget or a SimilarityThreshold"
        )
    return count
