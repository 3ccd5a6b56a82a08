"""What few-shot experiments put behind an encoder: a projection, a learned similarity, the fusion of views."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class ProjectionHead(nn.Module):
    """Embeddings (..., in_dim) to points of length 1 (..., out_dim), by two linear layers with ReLU between.

    Args:
        in_dim: Size of an embedding.
        hidden: Size between the layers.
        out_dim: Size of a point.
    """

    def __init__(self, in_dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.layers = nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, out_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn embeddings (..., in_dim) into points (..., out_dim) of length 1.

        Raises:
            ValueError: The embeddings are of another size.
        """
        _check_size(self, x, "embeddings", self.in_dim)
        return F.normalize(self.layers(x), dim=-1)


class RelationHead(nn.Module):
    """How much queries are like prototypes, from 0 to 1, learned (Sung et al., 2018, arXiv 1711.06025).

    A query and a prototype side by side go through linear layers of 256, 128, 256 and 1 outputs, ReLU between them,
    and a sigmoid.

    Args:
        dim: Size of a query and of a prototype.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Linear(2 * dim, 256), nn.ReLU(),
            nn.Linear(256, 128), nn.ReLU(),
            nn.Linear(128, 256), nn.ReLU(),
            nn.Linear(256, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, queries: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
        """Turn queries (..., Q, dim) and prototypes (..., N, dim) into scores (..., Q, N) from 0 to 1.

        Raises:
            ValueError: Queries or prototypes are of another size.
        """
        _check_size(self, queries, "queries", self.dim, n_axes=2)
        _check_size(self, prototypes, "prototypes", self.dim, n_axes=2)
        pairs = torch.broadcast_tensors(queries[..., :, None, :], prototypes[..., None, :, :])
        return self.layers(torch.cat(pairs, -1)).squeeze(-1)


class ViewFusion(nn.Module):
    """Several views of each clip that attend to one another (B, V, D) and are put side by side (B, V * D).

    One transformer layer, normalised after each part, without positions: the order of the views only decides the
    order of the blocks of D numbers.

    Args:
        dim: D, a multiple of `n_heads`.
        n_heads: Heads of the attention.
        ffn: Size within the feed-forward part.
        dropout: Training only.

    Raises:
        ValueError: Heads that do not divide the size.
    """

    def __init__(self, dim: int, n_heads: int = 1, ffn: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        if n_heads < 1 or dim % n_heads:
            raise ValueError(f"{n_heads} heads do not divide embeddings of size {dim}: take a divisor of {dim}")
        self.dim = dim
        self.layer = nn.TransformerEncoderLayer(dim, n_heads, ffn, dropout, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn views (B, V, dim) into one embedding of each clip (B, V * dim).

        Raises:
            ValueError: The input is not (B, V, dim).
        """
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise ValueError(f"views must be (clips, views, {self.dim}), got shape {tuple(x.shape)}")
        return self.layer(x).flatten(1)


def _check_size(head: nn.Module, x: torch.Tensor, name: str, size: int, n_axes: int = 1) -> None:
    if x.ndim < n_axes or x.shape[-1] != size:
        raise ValueError(
            f"{type(head).__name__} was given {name} of shape {tuple(x.shape)} and expects the last of at least "
            f"{n_axes} axes to be {size}"
        )
