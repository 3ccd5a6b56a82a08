"""The angle under which a negative sees an anchor and its positive (Wang et al., 2017, arXiv 1708.01682)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import check_episodes, full_precision, wide

_LEGACY_ALPHA = 40.0  # degrees


def angular_prototypical_loss(
    queries: Tensor,
    prototypes: Tensor,
    *,
    angle: float,
    prototypes_as_anchors: bool,
    legacy: bool = False,
) -> Tensor:
    """Return the angular loss of queries and prototypes, averaged over (anchor, positive) pairs and episodes.

    All embeddings are scaled to length 1. A pair a, p of one class costs log(1 + sum over n of e^f), where
    f = 4 tan^2(angle) (a + p).n - 2 (1 + tan^2(angle)) a.p and n goes over all references of other classes.

    Args:
        queries: Embeddings (E, N, q, D), grouped by class.
        prototypes: Embeddings (E, N, D).
        angle: The paper's alpha in degrees, in (0, 90): the upper bound of the angle at the negative. The smaller, the
            less negatives count; with `legacy` it is another angle, and may be 0.
        prototypes_as_anchors: Anchors are the prototypes, and the references are the queries. Otherwise prototypes and
            queries are one pool of N * (q + 1) points, each an anchor with every other of its class as positive.
        legacy: As AngularMiner and AngularLoss of pytorch-metric-learning with default settings: alpha is 40 degrees
            whatever `angle` is, and `angle` weighs the pairs. A pair counts once for every negative with
            atan(|a - p| / (2 |n - (a + p) / 2|)) > angle; 0 counts all. An episode without such a negative costs 0.

    Raises:
        ValueError: Wrong shapes or dtypes, a single class, or an angle out of range.
    """
    check_episodes(queries, prototypes, min_classes=2)
    if not 0.0 <= angle < 90.0:
        raise ValueError(f"angle is in degrees, from 0 to below 90, got {angle}")
    if angle == 0 and not legacy:
        raise ValueError("an angle of 0 leaves negatives out: give more degrees, or legacy, where 0 keeps all pairs")
    with full_precision(queries):
        points, anchors = F.normalize(wide(queries), dim=-1), F.normalize(wide(prototypes), dim=-1)[:, :, None]
        if not prototypes_as_anchors:
            points = anchors = torch.cat([anchors, points], 2)
        to_anchor, to_positive, together = _cosines(anchors, points)
    sums = to_anchor[:, :, :, None] + to_positive[:, :, None]  # (a + p).n: (E, N, A, R, N, R)
    losses = _pair_losses(sums, together, _LEGACY_ALPHA if legacy else angle)
    weights = torch.ones_like(losses)
    if legacy and angle > 0:
        weights = _wide_angles(sums.detach(), together.detach(), angle).to(losses.dtype)
    if not prototypes_as_anchors:
        itself = torch.eye(losses.shape[-1], dtype=torch.bool, device=losses.device)
        weights = weights.masked_fill(itself, 0)
    per_episode = (weights * losses).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1)
    return per_episode.mean()


def _cosines(anchors: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a.n (E, N, A, N, R), p.n (E, N, R, N, R) and a.p (E, N, A, R) of unit vectors."""
    references = points.flatten(1, 2).mT
    to_anchor = (anchors.flatten(1, 2) @ references).reshape(*anchors.shape[:3], *points.shape[1:3])
    to_positive = (points.flatten(1, 2) @ references).reshape(*points.shape[:3], *points.shape[1:3])
    together = to_anchor.diagonal(dim1=1, dim2=3).movedim(-1, 1)
    return to_anchor, to_positive, together


def _pair_losses(sums: Tensor, together: Tensor, degrees: float) -> Tensor:
    tan2 = math.tan(math.radians(degrees)) ** 2
    form = 4 * tan2 * sums - 2 * (1 + tan2) * together[..., None, None]
    total = form.masked_fill(_own_class(sums), -torch.inf).flatten(-2).logsumexp(-1)
    return torch.logaddexp(total, torch.zeros_like(total))


def _wide_angles(sums: Tensor, together: Tensor, degrees: float) -> Tensor:
    """Return how many negatives see each pair under more than an angle, (E, N, A, R)."""
    # On the unit sphere |a - p|^2 = 2 - 2 a.p and |n - (a + p) / 2|^2 = 1 + (1 + a.p) / 2 - (a + p).n.
    across = (2 - 2 * together)[..., None, None]
    away = (1.5 + together[..., None, None] / 2 - sums).clamp(min=0)
    wider = across > 4 * math.tan(math.radians(degrees)) ** 2 * away
    return (wider & ~_own_class(sums)).flatten(-2).sum(-1)


def _own_class(sums: Tensor) -> Tensor:
    return torch.eye(sums.shape[1], dtype=torch.bool, device=sums.device)[:, None, None, :, None]
