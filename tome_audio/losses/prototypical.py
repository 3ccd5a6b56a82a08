"""Distances to the mean of a class's few examples (Snell et al., 2017, arXiv 1703.05175)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import check_episodes, check_temperature, full_precision, wide

Distance = Literal["squared", "euclidean", "cosine"]
"""Squared Euclidean as in the paper, Euclidean, or one minus the cosine."""

_EPS = 1e-12  # under the root, so that its gradient at 0 is finite


def class_prototypes(support: Tensor) -> Tensor:
    """Return the mean of each class's k examples: support (..., N, k, D) to prototypes (..., N, D).

    Half precision is computed and returned in float32.

    Raises:
        ValueError: Not floating-point of at least three axes, or no example.
    """
    if support.ndim < 3 or 0 in support.shape or not support.is_floating_point():
        raise ValueError(
            "support must be floating-point (..., classes, shots, size) with at least one shot, "
            f"got {support.dtype} of shape {tuple(support.shape)}"
        )
    return wide(support).mean(-2)


def pairwise_distances(queries: Tensor, prototypes: Tensor, kind: Distance = "squared") -> Tensor:
    """Return the distance of every query to every prototype, (..., Q, N).

    Distances come from |x|^2 + |p|^2 - 2 x.p, which trains on every backend, unlike `torch.cdist`. That form loses
    digits where points are far from zero and close to one another, so both sides are first moved by the mean of the
    prototypes. Half precision is computed and returned in float32, inside autocast too. The Euclidean distance is the
    root of the squared one plus 1e-12: its gradient is finite where a query is its prototype.

    Args:
        queries: Embeddings (..., Q, D).
        prototypes: Embeddings (..., N, D), with the same leading axes or ones that broadcast.
        kind: Which distance.

    Raises:
        ValueError: Wrong shapes or dtypes, or an unknown distance.
    """
    _check_embeddings(queries, prototypes)
    with full_precision(queries):
        queries, prototypes = wide(queries), wide(prototypes)
        if kind == "cosine":
            return 1 - F.normalize(queries, dim=-1) @ F.normalize(prototypes, dim=-1).mT
        if kind not in ("squared", "euclidean"):
            raise ValueError(f"distance must be one of {', '.join(get_args(Distance))}, got {kind!r}")
        centre = prototypes.detach().mean(-2, keepdim=True)
        queries, prototypes = queries - centre, prototypes - centre
        ends = queries.square().sum(-1)[..., :, None] + prototypes.square().sum(-1)[..., None, :]
        squared = (ends - 2 * queries @ prototypes.mT).clamp(min=0)
        return squared if kind == "squared" else (squared + _EPS).sqrt()


def prototypical_logits(
    queries: Tensor, prototypes: Tensor, distance: Distance = "squared", temperature: float = 1.0
) -> Tensor:
    """Return -distance / temperature (..., Q, N), the logits of queries (..., Q, D) over prototypes (..., N, D).

    Raises:
        ValueError: Wrong shapes or dtypes, an unknown distance, or a temperature that is not positive.
    """
    check_temperature(temperature)
    return -pairwise_distances(queries, prototypes, distance) / temperature


def prototypical_loss(
    queries: Tensor, prototypes: Tensor, distance: Distance = "squared", temperature: float = 1.0
) -> Tensor:
    """Return the cross-entropy of every query against its own class, averaged over queries and episodes.

    Args:
        queries: Embeddings (E, N, q, D), grouped by class.
        prototypes: Embeddings (E, N, D).
        distance: What the logits are made of.
        temperature: What distances are divided by.

    Raises:
        ValueError: Wrong shapes or dtypes, an unknown distance, or a temperature that is not positive.
    """
    check_episodes(queries, prototypes)
    n_episodes, n_classes, n_queries, _ = queries.shape
    logits = prototypical_logits(queries.flatten(1, 2), prototypes, distance, temperature)
    classes = torch.arange(n_classes, device=logits.device).repeat_interleave(n_queries).repeat(n_episodes)
    return F.cross_entropy(logits.flatten(0, 1), classes)


def cl2n(embeddings: Tensor, mean: Tensor) -> Tensor:
    """Return embeddings (..., D) minus the mean (D,) of the training classes, each of length 1.

    The transform of SimpleShot (Wang et al., 2019, arXiv 1911.04623), made before prototypes are taken. Half precision
    is computed and returned in float32.

    Raises:
        ValueError: Not floating-point, or sizes that differ.
    """
    if embeddings.ndim < 1 or mean.shape != embeddings.shape[-1:] or not embeddings.is_floating_point():
        raise ValueError(
            f"mean must hold one number for each of the embeddings' sizes, got a mean of shape {tuple(mean.shape)} "
            f"for {embeddings.dtype} of shape {tuple(embeddings.shape)}"
        )
    return F.normalize(wide(embeddings) - wide(mean), dim=-1)


def _check_embeddings(queries: Tensor, prototypes: Tensor) -> None:
    fit = min(queries.ndim, prototypes.ndim) >= 2 and queries.shape[-1:] == prototypes.shape[-1:]
    if not fit or 0 in prototypes.shape or not (queries.is_floating_point() and prototypes.is_floating_point()):
        raise ValueError(
            "queries (..., queries, size) and prototypes (..., classes, size) must be floating-point and of one size, "
            f"got {queries.dtype} of shape {tuple(queries.shape)} and {prototypes.dtype} of shape "
            f"{tuple(prototypes.shape)}"
        )
