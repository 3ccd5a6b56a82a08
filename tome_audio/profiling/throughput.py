"""Timings that can be compared on a noisy machine: candidates take turns, and ratios are formed turn by turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch


class Ratio(NamedTuple):
    """How many times faster than a baseline: median and quartiles over the turns."""

    median: float
    low: float
    high: float


class Latency(NamedTuple):
    """How long one call takes, in milliseconds: median and 95th percentile over the turns."""

    median_ms: float
    p95_ms: float


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of one call; a GPU is waited for before and after it."""
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def interleaved(
    candidates: Mapping[str, Callable[[], object]], *, turns: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time every candidate once per turn, in order, and return seconds per candidate and turn.

    A GPU is waited for before and after each call.

    Raises:
        ValueError: if there is nothing to time.
    """
    if not candidates or turns < 1 or warmup < 0:
        raise ValueError("interleaved needs at least one candidate and one turn")
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warmup, turns):
        for name, call in candidates.items():
            taken = timed(call)
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


def interleaved_for(
    candidates: Mapping[str, Callable[[], object]], *, seconds: float, fewest: int = 3, most: int = 60
) -> dict[str, list[float]]:
    """As `interleaved`, with as many turns as fit into so many seconds, but no fewer and no more than said.

    Raises:
        ValueError: if there is nothing to time.
    """
    first = interleaved(candidates, turns=1)
    turns = int(seconds / sum(taken[0] for taken in first.values()))
    return interleaved(candidates, turns=min(max(turns, fewest), most), warmup=0)


def ratio(baseline: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """Return how many times faster `candidate` is, from the seconds of both in the same turns.

    Raises:
        ValueError: if the two do not have the same number of turns, or none.
    """
    if len(baseline) != len(candidate) or not baseline:
        raise ValueError(f"ratio needs the same turns of both, got {len(baseline)} and {len(candidate)}")
    turns = np.asarray(baseline) / np.asarray(candidate)
    return Ratio(*(float(np.quantile(turns, q)) for q in (0.5, 0.25, 0.75)))


def latency(seconds: Sequence[float]) -> Latency:
    """Return the median and the 95th percentile of the seconds of many calls, in milliseconds.

    Raises:
        ValueError: if there are none.
    """
    if not seconds:
        raise ValueError("latency needs the seconds of at least one call")
    return Latency(*(1000 * float(np.quantile(np.asarray(seconds), q)) for q in (0.5, 0.95)))


def wait() -> None:
    """Wait until a GPU has done what it was given; nothing where there is none."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
