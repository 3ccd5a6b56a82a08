"""Which tokens merge with which: bipartite soft matching, its adjacent-only form, and a random control.

Bipartite soft matching is algorithm 1 of "Token Merging: Your ViT But Faster" (Bolya et al., ICLR 2023,
arXiv 2210.09461, section 3). The tokens behind the P prefix tokens are split in turn into sets A (even) and B (odd);
each token of A finds its most similar token of B; the r best pairs merge. Prefix tokens are in neither set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from tome_audio.merge.plan import MergePlan, identity_plan, plan_from_pairs
from tome_audio.merge.schedule import max_r


def bipartite_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match the r most similar pairs of (A, B) tokens by the cosine of their `metric` (B, N, C).

    Ties break by position, so that every device gives the same plan.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    even, odd = _split(metric, r, n_prefix)
    if r == 0:
        return identity_plan(metric.shape[0], metric.shape[1], metric.device)
    with _full_precision(metric):
        best, partner = (even @ odd.mT).max(dim=-1)
        return _merge_best(best, partner, r, metric.shape[1], n_prefix)


def adjacent_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match like `bipartite_match`, but let a token of A join only its left or right neighbour.

    Keeps merged groups contiguous in time (Li et al., "Accelerating Transducers through Adjacent Token Merging",
    arXiv 2306.16009). On a frequency-major patch grid the neighbours are the next frames of the same band,
    but for the ends of each band.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    even, odd = _split(metric, r, n_prefix)
    if r == 0:
        return identity_plan(metric.shape[0], metric.shape[1], metric.device)
    n_even, n_odd = even.shape[1], odd.shape[1]
    with _full_precision(metric):
        right = F.pad((even[:, :n_odd] * odd).sum(-1), (0, n_even - n_odd), value=-torch.inf)
        left = F.pad((even[:, 1:] * odd[:, : n_even - 1]).sum(-1), (1, 0), value=-torch.inf)
        index = torch.arange(n_even, device=metric.device)
        partner = torch.where(right >= left, index, index - 1)
        # Where a score is NaN the comparison may point past either end.
        return _merge_best(torch.maximum(left, right), partner.clamp(0, n_odd - 1), r, metric.shape[1], n_prefix)


def random_match(metric: Tensor, r: int, *, n_prefix: int = 0, seed: int = 0) -> MergePlan:
    """Match r random tokens of A with random tokens of B: the control that any metric must beat.

    Only the shape (B, N, C) of `metric` is read. Every clip of the batch gets the same pairs, so that a clip's
    result does not depend on its neighbours; the same `seed` and N give the same pairs.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    _check(metric, r, n_prefix)
    batch, n_tokens = metric.shape[:2]
    if r == 0:
        return identity_plan(batch, n_tokens, metric.device)
    n_odd = (n_tokens - n_prefix) // 2
    n_even = n_tokens - n_prefix - n_odd
    index = torch.arange(n_even, device=metric.device)
    score, partner = _scramble(index, 2 * seed), _scramble(index, 2 * seed + 1) % n_odd
    return _merge_best(score.expand(batch, -1), partner.expand(batch, -1), r, n_tokens, n_prefix)


MATCHINGS: dict[str, Callable[..., MergePlan]] = {
    "bipartite": bipartite_match,
    "adjacent": adjacent_match,
    "random": random_match,
}


def _scramble(index: Tensor, seed: int) -> Tensor:
    """Return a pseudo-random int64 >= 0 for each index: arithmetic only, so every device and compiler agrees.

    The mixing steps of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) on 31 bits.
    """
    mask = 0x7FFFFFFF
    mixed = (index + 1 + seed * 0x9E3779B1) & mask
    for multiplier in (0x45D9F3B, 0x2C1B3C6D, 0x297A2D39):
        mixed = ((mixed ^ (mixed >> 16)) * multiplier) & mask
    return mixed ^ (mixed >> 15)


def _full_precision(metric: Tensor) -> AbstractContextManager[object]:
    """Keep autocast from coarsening similarities to half precision, where many of them tie."""
    if metric.is_meta or not torch.is_autocast_enabled(metric.device.type):
        return nullcontext()
    return torch.autocast(metric.device.type, enabled=False)


def _check(metric: Tensor, r: int, n_prefix: int) -> None:
    if metric.ndim != 3:
        raise ValueError(f"metric must be (B, N, C), got shape {tuple(metric.shape)}")
    limit = max_r(metric.shape[1], n_prefix)
    if not 0 <= r <= limit:
        raise ValueError(
            f"r={r} cannot be merged: {metric.shape[1]} tokens with {n_prefix} prefix tokens allow 0 to {limit}; "
            "clamp it with clamp_r"
        )


def _split(metric: Tensor, r: int, n_prefix: int) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of sets A and B, without gradient, in float32 or better."""
    _check(metric, r, n_prefix)
    wide = torch.promote_types(metric.dtype, torch.float32)
    unit = F.normalize(metric.detach()[:, n_prefix:].to(wide), dim=-1)
    return unit[:, ::2], unit[:, 1::2]


def _merge_best(score: Tensor, partner: Tensor, r: int, n_tokens: int, n_prefix: int) -> MergePlan:
    """Merge the r tokens of A with the highest `score` (B, |A|) into their `partner` (B, |A|) in B."""
    chosen = score.argsort(dim=-1, descending=True, stable=True)[:, :r]
    source, target = chosen * 2, partner.gather(1, chosen) * 2
    return plan_from_pairs(source.add_(n_prefix), target.add_(n_prefix + 1), n_tokens)
