"""How many tokens to merge in each layer."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

Rate = int | list[int] | tuple[int, float]
"""What a user may write for r: one number for every layer, a list with one number per layer (short lists go on with
0), or a tuple (r, inflection) as in the ToMe paper."""


def check_rate(r: Any) -> Rate:
    """Return `r` as plain Python numbers: int, list of int, or the tuple (int, float).

    Raises:
        ValueError: if `r` is none of these, negative, or its inflection is outside [-1, 1].
    """
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
        ValueError: if `r` is malformed or a list has more than `depth` numbers.
    """
    rate = check_rate(r)
    if isinstance(rate, int):
        return (rate,) * depth
    if isinstance(rate, list):
        if len(rate) > depth:
            raise ValueError(f"r lists {len(rate)} layers but the model has {depth}; shorten the list")
        return tuple(rate) + (0,) * (depth - len(rate))
    mean, inflection = rate
    if depth == 1:
        return (mean,)
    start = int(mean * (1 - inflection))
    step = (2 * mean - 2 * start) / (depth - 1)
    # 1e-9: a step such as -32/11 must not turn the last 0 into -1 by rounding.
    return tuple(max(0, math.floor(start + step * layer + 1e-9)) for layer in range(depth))


def max_r(n_tokens: int, n_prefix: int) -> int:
    """Return the most tokens one layer can merge: half of those that are not prefix tokens."""
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
            "or a tuple (r, inflection)"
        )
    return count
