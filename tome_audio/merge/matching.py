"""Which tokens merge with which: bipartite soft matching, its adjacent-only and size-aware forms, a random control.

Bipartite soft matching is algorithm 1 of "Token Merging: Your ViT But Faster" (Bolya et al., ICLR 2023,
arXiv 2210.09461, section 3). The tokens behind the P prefix tokens are split in turn into sets A (even) and B (odd);
each token of A finds its most similar token of B; the r best pairs merge. Prefix tokens are in neither set.
`register_matching` adds a matching by how it scores pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from tome_audio.merge.plan import MergePlan, identity_plan, plan_from_pairs
from tome_audio.merge.schedule import max_r
from tome_audio.merge.scores import SCORES, PairScore, Scores, score_pairs


def bipartite_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match the r most similar pairs of (A, B) tokens by the cosine of their `metric` (B, N, C).

    Ties break by position, so that every device gives the same plan.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(SCORES["bipartite"], metric, r, n_prefix)


def adjacent_match(metric: Tensor, r: int, *, n_prefix: int = 0) -> MergePlan:
    """Match like `bipartite_match`, but let a token of A join only its left or right neighbour.

    Keeps merged groups contiguous in time (Li et al., "Accelerating Transducers through Adjacent Token Merging",
    arXiv 2306.16009). On a frequency-major patch grid the neighbours are the next frames of the same band,
    but for the ends of each band.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(SCORES["adjacent"], metric, r, n_prefix)


def ward_match(metric: Tensor, r: int, *, n_prefix: int = 0, size: Tensor | None = None) -> MergePlan:
    """Match like `bipartite_match`, but let small tokens merge before large ones that are as similar.

    Replacing tokens of sizes s and t, a distance d apart, by their mean adds s t / (s + t) d^2 to the squared error of
    all input tokens (Ward, "Hierarchical Grouping to Optimize an Objective Function", 1963). Here the pairs that add
    least merge, with d^2 = 2 - 2 cosine, and with the square root of the factor: half way to plain similarity.

    Args:
        metric: what similarity is measured on, (B, N, C).
        r: pairs to merge.
        n_prefix: P.
        size: how many input tokens each token stands for, (B, N); None means 1 each, as in `bipartite_match`.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(SCORES["ward"], metric, r, n_prefix, size=size)


def random_match(metric: Tensor, r: int, *, n_prefix: int = 0, seed: int = 0) -> MergePlan:
    """Match r random tokens of A with random tokens of B: the control that any metric must beat.

    Only the shape (B, N, C) of `metric` is read. Every clip of the batch gets the same pairs, so that a clip's
    result does not depend on its neighbours; the same `seed` and N give the same pairs.

    Raises:
        ValueError: if r is negative or more than (N - P) // 2, or `metric` is not (B, N, C).
    """
    return _match(SCORES["random"], metric, r, n_prefix, seed)


MATCHINGS: dict[str, Callable[..., MergePlan]] = {
    "bipartite": bipartite_match,
    "adjacent": adjacent_match,
    "ward": ward_match,
    "random": random_match,
}


def takes_size(matching: str) -> bool:
    """Return whether the function in `MATCHINGS` takes the sizes of tokens, as `size`."""
    return matching not in ("bipartite", "adjacent", "random")


def register_matching(name: str, score: PairScore) -> None:
    """Add a matching to what `apply_patch(model, matching=name)` understands.

    The r best pairs merge, each token of A with its best of B; prefix tokens, padding, ties, repeated matching and
    clips of different lengths are taken care of. A pair that must not merge gets a very low score, and merges only
    where nothing else is left. Processes that are spawned have to register it again.

    Args:
        name: a new one.
        score: how good each pair is, see `PairScore`; higher merges first. What a pair gets must not depend on others.

    Raises:
        ValueError: if the name is no string, or taken.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of a matching must be a string, got {name!r}")
    if name in MATCHINGS:
        raise ValueError(f"a matching is called {name!r} already; choose another name, or unregister_matching it first")
    SCORES[name] = partial(score_pairs, score)
    MATCHINGS[name] = partial(_match_registered, name)


def unregister_matching(name: str) -> None:
    """Take a matching that was registered out again; models patched with it must be patched anew.

    Raises:
        ValueError: if no registered matching has this name; those of the package stay.
    """
    if name in _BUILT_IN or name not in MATCHINGS:
        added = ", ".join(sorted(set(MATCHINGS) - _BUILT_IN)) or "none"
        raise ValueError(f"no registered matching is called {name!r}; registered are: {added}")
    del MATCHINGS[name], SCORES[name]


def match_each(
    matching: str,
    metric: Tensor,
    r: Sequence[int],
    counts: Sequence[int],
    *,
    n_prefix: int = 0,
    seed: int = 0,
    size: Tensor | None = None,
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
        size: how many input tokens each token stands for, (B, N); None means 1 each. Only some matchings look.

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
        score, partner = SCORES[matching](metric, n_prefix, seed, valid[:, n_prefix:], size)
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


def _match(
    score: Callable[..., Scores],
    metric: Tensor,
    r: int,
    n_prefix: int,
    seed: int = 0,
    size: Tensor | None = None,
) -> MergePlan:
    if metric.ndim != 3:
        raise ValueError(f"metric must be (B, N, C), got shape {tuple(metric.shape)}")
    _check_amount(r, metric.shape[1], n_prefix)
    if size is not None and size.shape != metric.shape[:2]:
        raise ValueError(f"size must be {tuple(metric.shape[:2])} like the metric, got {tuple(size.shape)}")
    if r == 0:
        return identity_plan(metric.shape[0], metric.shape[1], metric.device)
    best, partner = score(metric, n_prefix, seed, None, size)
    chosen = best.argsort(dim=-1, descending=True, stable=True)[:, :r]
    source, target = chosen * 2, partner.gather(1, chosen) * 2
    return plan_from_pairs(source.add_(n_prefix), target.add_(n_prefix + 1), metric.shape[1])


def _match_registered(name: str, metric: Tensor, r: int, *, n_prefix: int = 0, size: Tensor | None = None) -> MergePlan:
    return _match(SCORES[name], metric, r, n_prefix, size=size)


_BUILT_IN = frozenset(MATCHINGS)


def _check_amount(r: int, n_tokens: int, n_prefix: int) -> None:
    limit = max_r(n_tokens, n_prefix)
    if not 0 <= r <= limit:
        raise ValueError(
            f"r={r} cannot be merged: {n_tokens} tokens with {n_prefix} prefix tokens allow 0 to {limit}; "
            "clamp it with clamp_r"
        )
