"""Learned similarity of a query and a prototype (Sung et al., 2018, arXiv 1711.06025)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import wide


def relation_loss(scores: Tensor) -> Tensor:
    """Return the mean squared error of scores (E, N, q, N) in [0, 1] to 1 for the own class and 0 for others.

    Args:
        scores: For the q queries of each of N classes, how much they are like each of the N prototypes.

    Raises:
        ValueError: Wrong shape or dtype, or scores outside [0, 1].
    """
    if scores.ndim != 4 or 0 in scores.shape or scores.shape[1] != scores.shape[3] or not scores.is_floating_point():
        raise ValueError(
            "scores must be floating-point (episodes, classes, queries per class, classes), "
            f"got {scores.dtype} of shape {tuple(scores.shape)}"
        )
    low, high = scores.detach().aminmax()
    if not bool((low >= 0) & (high <= 1)):  # NaN compares as neither
        raise ValueError(f"scores must be from 0 to 1, got {float(low):g} to {float(high):g}: is a sigmoid missing?")
    scores = wide(scores)
    own = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
    return F.mse_loss(scores, own[:, None].expand_as(scores))
