"""From a compute target to numbers: shapes of schedules that scale with depth, tokens and prefix, without any data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from tome_audio.merge.macs import BlockCost, encoder_macs
from tome_audio.merge.schedule import (
    AUTO,
    Amounts,
    ComputeTarget,
    Rate,
    Schedule,
    clamp_amounts,
    clamp_schedule,
    expand_schedule,
)

_STEPS = 400


def resolve_rate(
    rate: Rate,
    n_tokens: int,
    n_prefix: int,
    blocks: Sequence[BlockCost],
    *,
    last_queries: int | None = None,
    rows: int = 1,
) -> Amounts:
    """Return what merges where when N tokens, P of them prefix, enter a model with these blocks.

    Args:
        rate: r as the user wrote it.
        n_tokens: N.
        n_prefix: P.
        blocks: the cost of each block; only a `ComputeTarget` looks at more than how many there are.
        last_queries: how many tokens of the last block are computed; None means all. It merges nothing then.
        rows: in how many rows of frequency the patches lie; 1 where tokens follow each other in time.

    Raises:
        ValueError: if the rate lists too many blocks, or a target is out of reach; it names the reachable maximum.
    """
    depth = len(blocks)
    if isinstance(rate, ComputeTarget):
        shaped = ComputeTarget(rate.macs_cut, rate.on_grid(rows))
        return _fit_target(shaped, n_tokens, n_prefix, tuple(blocks), last_queries)
    if isinstance(rate, Schedule):
        amounts = clamp_amounts(rate, depth, n_tokens, n_prefix)
    else:
        amounts = Amounts((), clamp_schedule(expand_schedule(rate, depth), n_tokens, n_prefix))
    return _without_last(amounts) if last_queries is not None else amounts


def before_matching(rate: Rate, rows: int = 1) -> str:
    """Return which tokens may merge before the first block; `rows` as in `resolve_rate`."""
    if isinstance(rate, Schedule):
        return rate.before_matching
    return "bipartite" if isinstance(rate, ComputeTarget) and rate.on_grid(rows) == "rounds" else "adjacent"


def macs_cut(amounts: Amounts, n_tokens: int, blocks: Sequence[BlockCost], *, last_queries: int | None = None) -> float:
    """Return how many times fewer MACs the blocks take than with N = `n_tokens` in each and nothing left out."""
    whole = encoder_macs(blocks, [n_tokens] * (len(blocks) + 1))
    return whole / encoder_macs(blocks, amounts.tokens(n_tokens), last_queries=last_queries)


def reachable_cut(
    n_tokens: int,
    n_prefix: int,
    blocks: Sequence[BlockCost],
    *,
    shape: str = AUTO,
    last_queries: int | None = None,
    rows: int = 1,
) -> float:
    """Return the most times fewer MACs that a `ComputeTarget` of this shape reaches; arguments as in `resolve_rate`."""
    own = ComputeTarget(1.0, shape).on_grid(rows)
    return max(cut for _, cut in _members(own, n_tokens, n_prefix, blocks, last_queries))


@lru_cache(maxsize=256)
def _fit_target(
    target: ComputeTarget, n_tokens: int, n_prefix: int, blocks: tuple[BlockCost, ...], last_queries: int | None
) -> Amounts:
    """Return the mildest member of the shape that reaches the target."""
    if target.macs_cut == 1:
        return Amounts((), (0,) * len(blocks))
    best = 1.0
    for amounts, cut in _members(target.shape, n_tokens, n_prefix, blocks, last_queries):
        if cut >= target.macs_cut:
            return amounts
        best = max(best, cut)
    raise ValueError(
        f"{target.macs_cut:g} times fewer MACs are out of reach of the shape {target.shape!r} with {n_tokens} tokens: "
        f"{best:.2f} is the most; ask for less, or choose another shape"
    )


def _members(
    shape: str, n_tokens: int, n_prefix: int, blocks: Sequence[BlockCost], last_queries: int | None
) -> Iterator[tuple[Amounts, float]]:
    """Yield what each schedule of the shape merges and how many times fewer MACs that is, milder ones first."""
    for schedule in _FAMILIES[shape](n_tokens - n_prefix, len(blocks)):
        amounts = clamp_amounts(schedule, len(blocks), n_tokens, n_prefix)
        amounts = _without_last(amounts) if last_queries is not None else amounts
        yield amounts, macs_cut(amounts, n_tokens, blocks, last_queries=last_queries)


def _constant(n_patches: int, depth: int) -> Iterator[Schedule]:
    for r in range(n_patches // 2 + 1):
        yield Schedule(clamp_schedule((r,) * depth, n_patches, 0))


def _decreasing(n_patches: int, depth: int) -> Iterator[Schedule]:
    for r in range(n_patches // 2 + 1):
        yield Schedule(clamp_schedule(expand_schedule((r, -1.0), depth), n_patches, 0))


def _front_loaded(n_patches: int, depth: int) -> Iterator[Schedule]:
    """Yield milder schedules first: neighbours before block 0, a little in blocks, then more rounds before block 0.

    The share of its patches that a block merges falls linearly to 0 over the first 60 % of the blocks.
    """
    layers = max(1, round(0.6 * depth))
    # Knots of (first round, second round, third round, share of the first block).
    knots = [(0.0, 0.0, 0.0, 0.0), (0.4, 0.0, 0.0, 0.0), (0.5, 0.1, 0.0, 0.1), (0.5, 0.5, 0.0, 0.1)]
    knots += [(0.5, 0.5, 0.3, 0.1), (0.5, 0.5, 0.5, 0.3), (0.5, 0.5, 0.5, 1.0)]
    for start, end in pairwise(knots):
        for step in range(_STEPS + 1):
            part = step / _STEPS
            first, second, third, share = (a + (b - a) * part for a, b in zip(start, end, strict=True))
            left, before = n_patches, []
            for half in (first, second, third):
                before.append(int(half * left))
                left -= before[-1]
            numbers = []
            for layer in range(layers):
                numbers.append(min(round(share * (1 - layer / layers) * left), max(0, left - 1)))
                left -= numbers[-1]
            yield Schedule(tuple(numbers), tuple(r for r in before if r))


def _in_rounds(n_patches: int, depth: int) -> Iterator[Schedule]:
    """Yield milder schedules first: the same number in six rounds, and where halves bind, a growing share in each.

    On a grid of time and frequency few large rounds among neighbours are worse than none: a patch has its likes in its
    band and in its frame, and several small rounds find both.
    """
    n_rounds = 6
    last = 0
    for total in range(n_patches):
        rounds = [(total + i) // n_rounds for i in range(n_rounds)]
        if clamp_schedule(rounds, n_patches, 0) != tuple(rounds):
            break
        last = total
        yield Schedule((), tuple(r for r in rounds if r))
    start = 1 - (1 - last / max(1, n_patches)) ** (1 / n_rounds)
    for step in range(_STEPS + 1):
        share = start + (0.5 - start) * step / _STEPS
        left, rounds = n_patches, []
        for _ in range(n_rounds):
            rounds.append(int(share * left))
            left -= rounds[-1]
        yield Schedule((), tuple(r for r in rounds if r))


_FAMILIES: dict[str, Callable[[int, int], Iterator[Schedule]]] = {
    "front-loaded": _front_loaded,
    "rounds": _in_rounds,
    "decreasing": _decreasing,
    "constant": _constant,
}


def _without_last(amounts: Amounts) -> Amounts:
    """Leave out what the last block merges, which nobody would see."""
    return Amounts(amounts.before, (*amounts.blocks[:-1], 0))
