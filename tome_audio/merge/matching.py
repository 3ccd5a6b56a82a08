"""Which tokens merge with which: bipartite soft matching, its adjacent-only form, and a random control.

Bipartite soft matching is algorithm 1 of "Token Merging: Your ViT But Faster" (Bolya et al., ICLR 2023,
arXiv 2210.09461, section 3). The tokens behind the P prefix tokens are split in turn into sets A (even) and B (odd);
each token of A finds its most similar token of B; the r best pairs merge. Prefix tokens are in neither set.

Each matching is a function that gives every token of A its best partner in B and a score. Tokens of padding, where
there are any, are nobody's partner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from tome_audio.merge.plan import MergePlan, identity_plan, plan_from_pairs
from tome_audio.merge.schedule import max_r

Scores = tuple[Tensor, Tensor]
"""For each token of A: how good its best pair is (B, |A|), and which token of B is in it (B, |A|)."""


def bipartite_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match the r most similar pairs of (A, B) tokens by the cosine of their `metric` (B, N, C).

    Ties break by position, so that every device gives the same plan.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(_score_all, metric, r, n_prefix)


def adjacent_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match like `bipartite_match`, but let a token of A join only its left or right neighbour.

    Keeps merged groups contiguous in time (Li et al., "Accelerating Transducers through Adjacent Token Merging",
    arXiv 2306.16009). On a frequency-major patch grid the neighbours are the next frames of the same band,
    but for the ends of each band.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(_score_neighbours, metric, r, n_prefix)


def random_match(metric: Tensor, r: int, *, n_prefix: int = 0, seed: int = 0) -> MergePlan:
    """Match r random tokens of A with random tokens of B: the control that any metric must beat.

    Only the shape (B, N, C) of `metric` is read. Every clip of the batch gets the same pairs, so that a clip's
    result does not depend on its neighbours; the same `seed` and N give the same pairs.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(_score_at_random, metric, r, n_prefix, seed)


MATCHINGS: dict[str, Callable[..., MergePlan]] = {
    "bipartite": bipartite_match,
    "adjacent": adjacent_match,
    "random": random_match,
}


def match_each(
    matching: str, metric: Tensor, r: Sequence[int], counts: Sequence[int], *, n_prefix: int = 0, seed: int = 0
) -> MergePlan:
    """Match r[b] pairs in clip b, of which only the first counts[b] tokens are no padding.

    Each clip's pairs are those it would get alone. The plan has as many slots as the clip with the most tokens left
    needs; the slots of the others behind their own tokens are empty.

    Args:
        matching: a name in `MATCHINGS`.
        metric: what similarity is measured on, (B, N, C).
        r: pairs to merge in each clip, at most (counts[b] - P) // 2.
        counts: tokens of each clip that are no padding, prefix included; they come first.
        n_prefix: P.
        seed: of random matching.

    Raises:
        ValueError: if `r` or `counts` does not fit the metric.
    """
    batch, n_tokens = metric.shape[:2]
    if len(r) != batch or len(counts) != batch or max(counts) > n_tokens:
        raise ValueError(f"r and counts must hold {batch} numbers, counts at most {n_tokens}: got {r} and {counts}")
    for amount, count in zip(r, counts, strict=True):
        _check_amount(amount, count, n_prefix)
    positions = torch.arange(n_tokens, device=metric.device).expand(batch, -1)
    pairs = torch.tensor(list(r), device=metric.device)[:, None]
    valid = positions < torch.tensor(list(counts), device=metric.device)[:, None]
    most = max(r)
    source = target = positions[:, :0]
    if most > 0:
        score, partner = SCORES[matching](metric, n_prefix, seed, valid[:, n_prefix:])
        score = score.masked_fill(~valid[:, n_prefix::2], -torch.inf)
        chosen = score.argsort(dim=-1, descending=True, stable=True)[:, :most]
        source, target = n_prefix + 2 * chosen, n_prefix + 1 + 2 * partner.gather(1, chosen)
    is_pair = torch.arange(most, device=metric.device) < pairs
    # 0: stays, 1: padding, 2: leaves. A slot that is left over takes padding first.
    kind = (~valid).long()
    kind = kind.scatter(1, source, kind.gather(1, source).where(~is_pair, 2))
    n_out = max(count - gone for gone, count in zip(r, counts, strict=True))
    stays = kind.argsort(dim=1, stable=True)[:, :n_out]
    rank = (kind == 0).long().cumsum(1) - 1
    # A clip with fewer pairs fills up with tokens that leave to the slot they stay in.
    own = (torch.arange(most, device=metric.device) - pairs).clamp(min=0)
    leaves = source.where(is_pair, stays.gather(1, own))
    return MergePlan(stays, leaves, rank.gather(1, target).where(is_pair, own), n_tokens, padded=True)


def _match(score: Callable[..., Scores], metric: Tensor, r: int, n_prefix: int, seed: int = 0) -> MergePlan:
    if metric.ndim != 3:
        raise ValueError(f"metric must be (B, N, C), got shape {tuple(metric.shape)}")
    _check_amount(r, metric.shape[1], n_prefix)
    if r == 0:
        return identity_plan(metric.shape[0], metric.shape[1], metric.device)
    best, partner = score(metric, n_prefix, seed, None)
    chosen = best.argsort(dim=-1, descending=True, stable=True)[:, :r]
    source, target = chosen * 2, partner.gather(1, chosen) * 2
    return plan_from_pairs(source.add_(n_prefix), target.add_(n_prefix + 1), metric.shape[1])


def _score_all(metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None) -> Scores:
    even, odd = _split(metric, n_prefix)
    with _full_precision(metric):
        scores = even @ odd.mT
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, 1::2], -torch.inf)
    best, partner = scores.max(dim=-1)
    return best, partner


def _score_neighbours(metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None) -> Scores:
    even, odd = _split(metric, n_prefix)
    n_even, n_odd = even.shape[1], odd.shape[1]
    with _full_precision(metric):
        right = F.pad((even[:, :n_odd] * odd).sum(-1), (0, n_even - n_odd), value=-torch.inf)
        left = F.pad((even[:, 1:] * odd[:, : n_even - 1]).sum(-1), (1, 0), value=-torch.inf)
    if valid is not None:
        missing = ~valid[:, 1::2]
        right = right.masked_fill(F.pad(missing, (0, n_even - n_odd)), -torch.inf)
        left = left.masked_fill(F.pad(missing[:, : n_even - 1], (1, 0)), -torch.inf)
    index = torch.arange(n_even, device=metric.device)
    partner = torch.where(right >= left, index, index - 1)
    # Where a score is NaN the comparison may point past either end.
    return torch.maximum(left, right), partner.clamp(0, n_odd - 1)


def _score_at_random(metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None) -> Scores:
    batch, n_patches = metric.shape[0], metric.shape[1] - n_prefix
    n_even = n_patches - n_patches // 2
    n_odd: int | Tensor = n_patches // 2 if valid is None else valid[:, 1::2].sum(1, keepdim=True).clamp(min=1)
    index = torch.arange(n_even, device=metric.device)
    score, partner = _scramble(index, 2 * seed), _scramble(index, 2 * seed + 1) % n_odd
    return score.expand(batch, -1).to(torch.float64), partner.expand(batch, -1)


SCORES: dict[str, Callable[..., Scores]] = {
    "bipartite": _score_all,
    "adjacent": _score_neighbours,
    "random": _score_at_random,
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


def _check_amount(r: int, n_tokens: int, n_prefix: int) -> None:
    limit = max_r(n_tokens, n_prefix)
    if not 0 <= r <= limit:
        raise ValueError(
            f"r={r} cannot be merged: {n_tokens} tokens with {n_prefix} prefix tokens allow 0 to {limit}; "
            "clamp it with clamp_r"
        )


def _split(metric: Tensor, n_prefix: int) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of sets A and B, without gradient, in float32 or better."""
    wide = torch.promote_types(metric.dtype, torch.float32)
    unit = F.normalize(metric.detach()[:, n_prefix:].to(wide), dim=-1)
    return unit[:, ::2], unit[:, 1::2]
