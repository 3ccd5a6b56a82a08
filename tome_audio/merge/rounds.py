"""More than one matching in the same place, and clips of different lengths in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from tome_audio.merge.matching import match_each
from tome_audio.merge.plan import MergePlan, compose
from tome_audio.merge.reduce import merge_tokens
from tome_audio.merge.schedule import max_r


def match_repeatedly(
    match: Callable[..., MergePlan],
    metric: Tensor,
    r: int,
    size: Tensor | None = None,
    *,
    n_prefix: int = 0,
    sized: bool = False,
    rounds: int = 1,
) -> MergePlan:
    """Match r tokens by as many matchings as it takes; each of them sees the size-weighted mean of the one before.

    Args:
        match: takes a metric (B, N, C) and r, at most half of the tokens behind the prefix, and returns a plan.
        metric: what similarity is measured on, (B, N, C).
        r: how many of the N tokens go away, N - P - 1 at most.
        size: how many input tokens each token stands for, (B, N); None means 1 each.
        n_prefix: P.
        sized: `match` also takes the sizes (B, N), as `size`.
        rounds: split r over so many matchings, or as many more as it takes.

    Raises:
        ValueError: if r is more than N - P - 1 (or negative).
    """
    n_tokens = metric.shape[1]
    if not 0 <= r <= max(0, n_tokens - n_prefix - 1):
        raise ValueError(f"r={r} cannot be merged: of {n_tokens} tokens with {n_prefix} prefix tokens one must stay")
    plan = step = None
    for amount in _amounts(r, n_tokens, n_prefix, rounds):
        if step is not None:
            metric, size = merge_tokens(step, metric.detach(), size)
        step = match(metric, amount, **({"size": size} if sized else {}))
        plan = step if plan is None else compose(plan, step)
    assert plan is not None  # there is always a first round
    return plan


def match_each_in_rounds(
    matching: str,
    metric: Tensor,
    r: Sequence[int],
    counts: Sequence[int],
    size: Tensor,
    *,
    n_prefix: int = 0,
    seed: int = 0,
    rounds: int = 1,
) -> Iterator[MergePlan]:
    """Match r[b] tokens of clip b, of which the first counts[b] are no padding: the plans of all rounds, in order.

    Args:
        matching: a name in `MATCHINGS`.
        metric: what similarity is measured on, (B, N, C).
        r: how many tokens of each clip go away, counts[b] - P - 1 at most.
        counts: tokens of each clip that are no padding, prefix included; they come first.
        size: how many input tokens each token stands for, (B, N); 0 for padding.
        n_prefix: P.
        seed: of random matching.
        rounds: see `match_repeatedly`.

    Raises:
        ValueError: if `r` or `counts` does not fit the metric.
    """
    now = list(counts)
    shares = [_amounts(amount, count, n_prefix, rounds) for amount, count in zip(r, counts, strict=True)]
    for done in range(max(map(len, shares))):
        amounts = [share[done] if done < len(share) else 0 for share in shares]
        plan = match_each(matching, metric, amounts, now, n_prefix=n_prefix, seed=seed, size=size)
        yield plan
        metric, size = merge_tokens(plan, metric.detach(), size)
        now = [count - amount for count, amount in zip(now, amounts, strict=True)]


def _amounts(r: int, n_tokens: int, n_prefix: int, rounds: int) -> list[int]:
    """Return what each matching merges: r in even parts, and never more than half of the patches there are by then."""
    if r > max(0, n_tokens - n_prefix - 1):
        raise ValueError(f"r={r} cannot be merged: of {n_tokens} tokens with {n_prefix} prefix tokens one must stay")
    amounts = []
    for part in range(rounds):
        wanted = r * (part + 1) // rounds - r * part // rounds
        while wanted > 0:
            amounts.append(min(wanted, max_r(n_tokens, n_prefix)))
            n_tokens, wanted = n_tokens - amounts[-1], wanted - amounts[-1]
    return amounts or [0]


def pack_plan(valid: Tensor) -> MergePlan:
    """Return the plan that moves the tokens that are no padding to the front and drops what no clip needs.

    Args:
        valid: (B, N) bool, False for padding.
    """
    n_out = int(valid.sum(1).max())
    stays = (~valid).long().argsort(dim=1, stable=True)[:, :n_out]
    return MergePlan(stays, stays[:, :0], stays[:, :0], valid.shape[1], padded=True)
