"""How good it is to merge two tokens: every token of A gets its best partner in B and a score.

Tokens of padding, where there are any, are nobody's partner.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = tuple[Tensor, Tensor]
"""For each token of A: how good its best pair is (B, |A|), and which token of B is in it (B, |A|)."""

PairScore = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Takes the metric of sets A (B, |A|, C) and B (B, |B|, C), without gradient and in float32 or better, and how many
input tokens each of their tokens stands for, (B, |A|) and (B, |B|); returns how good each pair is, (B, |A|, |B|)."""


def _score_all(metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None, size: Tensor | None = None) -> Scores:
    even, odd = _split(metric, n_prefix)
    with _full_precision(metric):
        return _best(even @ odd.mT, valid)


def score_pairs(
    score: PairScore, metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None, size: Tensor | None = None
) -> Scores:
    """Score by a function of all pairs."""
    patches = metric.detach()[:, n_prefix:].to(torch.promote_types(metric.dtype, torch.float32))
    even, odd = patches[:, ::2], patches[:, 1::2]
    sizes = (metric.new_ones(metric.shape[:2]) if size is None else size)[:, n_prefix:].to(patches.dtype)
    with _full_precision(metric):
        scores = score(even, odd, sizes[:, ::2], sizes[:, 1::2])
    wanted = (even.shape[0], even.shape[1], odd.shape[1])
    if scores.shape != wanted:
        raise ValueError(f"a registered matching must score pairs as {wanted} (B, |A|, |B|), got {tuple(scores.shape)}")
    return _best(scores.to(patches.dtype), valid)


def _best(scores: Tensor, valid: Tensor | None) -> Scores:
    """Return each token's best pair of those in `scores` (B, |A|, |B|), padding left out."""
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, 1::2], -torch.inf)
    best, partner = scores.max(dim=-1)
    return best, partner


def _ward_score(even: Tensor, odd: Tensor, even_size: Tensor, odd_size: Tensor) -> Tensor:
    distance = 1 - F.normalize(even, dim=-1) @ F.normalize(odd, dim=-1).mT
    one, other = even_size[:, :, None], odd_size[:, None]
    # Padding has size 0; two tokens of it would divide 0 by 0.
    factor = one * other / (one + other).clamp(min=torch.finfo(one.dtype).tiny)
    return -distance * factor.sqrt()


def _score_neighbours(
    metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None, size: Tensor | None = None
) -> Scores:
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


def _score_at_random(
    metric: Tensor, n_prefix: int, seed: int, valid: Tensor | None, size: Tensor | None = None
) -> Scores:
    batch, n_patches = metric.shape[0], metric.shape[1] - n_prefix
    n_even = n_patches - n_patches // 2
    n_odd: int | Tensor = n_patches // 2 if valid is None else valid[:, 1::2].sum(1, keepdim=True).clamp(min=1)
    index = torch.arange(n_even, device=metric.device)
    score, partner = _scramble(index, 2 * seed), _scramble(index, 2 * seed + 1) % n_odd
    return score.expand(batch, -1).to(torch.float64), partner.expand(batch, -1)


SCORES: dict[str, Callable[..., Scores]] = {
    "bipartite": _score_all,
    "adjacent": _score_neighbours,
    "ward": partial(score_pairs, _ward_score),
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


def _split(metric: Tensor, n_prefix: int) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of sets A and B, without gradient, in float32 or better."""
    wide = torch.promote_types(metric.dtype, torch.float32)
    unit = F.normalize(metric.detach()[:, n_prefix:].to(wide), dim=-1)
    return unit[:, ::2], unit[:, 1::2]
