"""How many pairs of tokens are similar enough to merge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tome_audio.merge.scores import SCORES


def count_similar(
    matching: str, metric: Tensor, threshold: float, *, n_prefix: int = 0, counts: Sequence[int] | None = None
) -> list[int]:
    """Return for each clip how many of its tokens have a partner with a cosine above the threshold.

    Args:
        matching: a name in `MATCHINGS` that goes by similarity.
        metric: what similarity is measured on, (B, N, C).
        threshold: a cosine.
        n_prefix: P.
        counts: tokens of each clip that are no padding, prefix included; they come first. None: all of them.
    """
    n_tokens = metric.shape[1]
    if n_tokens - n_prefix < 2:
        return [0] * metric.shape[0]
    valid = None
    if counts is not None:
        positions = torch.arange(n_tokens, device=metric.device)
        valid = positions < torch.tensor(list(counts), device=metric.device)[:, None]
    best, _ = SCORES[matching](metric, n_prefix, 0, None if valid is None else valid[:, n_prefix:])
    above = best > threshold
    if valid is not None:
        above &= valid[:, n_prefix::2]
    # With an odd number of tokens A has one more than B: one matching merges half of them at most.
    most = [(count - n_prefix) // 2 for count in (counts or [n_tokens] * metric.shape[0])]
    return [min(found, limit) for found, limit in zip(above.sum(1).tolist(), most, strict=True)]
