"""Prototypes against a few queries of every other class (Gao et al., 2021, CPLAE, arXiv 2101.09499)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import check_episodes, check_temperature, full_precision, wide


def contrastive_prototypical_loss(
    queries: Tensor,
    prototypes: Tensor,
    *,
    temperature: float,
    n_negatives: int,
    generator: torch.Generator | None = None,
    legacy: bool = False,
) -> Tensor:
    """Return how well each prototype tells its own queries from others, averaged over queries and episodes.

    With z_i a query, p the prototype of its class and z_n the (N - 1) * `n_negatives` queries that were drawn for it,
    the loss of a query is -log(e^(cos(p, z_i) / T) / (e^(cos(p, z_i) / T) + sum over n of e^(cos(p, z_n) / T))).

    Args:
        queries: Embeddings (E, N, q, D), grouped by class.
        prototypes: Embeddings (E, N, D).
        temperature: T, what cosines are divided by.
        n_negatives: How many queries of each other class are drawn, without replacement, for every query.
        generator: On the CPU, for the draw; None is torch's own.
        legacy: Divide by the N * q queries of an episode once more, as the reference implementation does.

    Raises:
        ValueError: Wrong shapes or dtypes, a single class, or a setting out of range.
    """
    check_episodes(queries, prototypes, min_classes=2)
    check_temperature(temperature)
    n_episodes, n_classes, n_queries, _ = queries.shape
    drawn = draw_negatives(n_episodes, n_classes, n_queries, n_negatives, generator).to(queries.device)
    with full_precision(queries):
        points, anchors = F.normalize(wide(queries), dim=-1), F.normalize(wide(prototypes), dim=-1)
        # (E, N prototypes, N classes, q): prototypes against all queries.
        logits = (anchors @ points.flatten(1, 2).mT).reshape(n_episodes, n_classes, n_classes, n_queries)
    logits = logits / temperature
    positive = logits.diagonal(dim1=1, dim2=2).mT  # (E, N, q)
    negatives = logits[:, :, None].expand(-1, -1, n_queries, -1, -1).gather(-1, drawn)
    own = torch.eye(n_classes, dtype=torch.bool, device=logits.device)[:, None, :, None]
    negatives = negatives.masked_fill(own, -torch.inf).flatten(-2)
    loss: Tensor = (torch.cat([positive[..., None], negatives], -1).logsumexp(-1) - positive).mean()
    return loss / (n_classes * n_queries) if legacy else loss


def draw_negatives(
    n_episodes: int, n_classes: int, n_queries: int, n_negatives: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return for every query which `n_negatives` of each class's q queries are drawn, int64 (E, N, q, N, M).

    Each draw is without replacement and on its own. The own class of a query is drawn from too; the loss leaves it out.

    Raises:
        ValueError: `n_negatives` is not from 1 to q.
    """
    if not 1 <= n_negatives <= n_queries:
        raise ValueError(
            f"n_negatives is {n_negatives}, but a class has {n_queries} queries to draw from: "
            f"take from 1 to {n_queries}, or more queries per class"
        )
    keys = torch.rand((n_episodes, n_classes, n_queries, n_classes, n_queries), generator=generator)
    return keys.argsort(-1)[..., :n_negatives]
