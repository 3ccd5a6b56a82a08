"""Embeddings of stretches of songs: an AST that merges as any other, a projection, length 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tome_audio.models.ast import AST


class SongEncoder(nn.Module):
    """Windows of songs to points on a sphere; what is alike lies close together.

    Args:
        encoder_args: Arguments of the `AST`; it has no classes.
        n_dims: Size D of embeddings.
        labels: Not used; checkpoints of every model have them.

    Raises:
        ValueError: Arguments that do not fit.
    """

    def __init__(
        self, encoder_args: Mapping[str, Any], n_dims: int = 128, *, labels: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if n_dims < 1:
            raise ValueError(f"n_dims must be at least 1, got {n_dims}")
        self.encoder = AST(**{**encoder_args, "n_classes": 0})
        self.projection = nn.Linear(self.encoder.out_dim, n_dims)
        self.n_dims, self.labels = n_dims, None
        self.init_args = {"encoder_args": {**encoder_args, "n_classes": 0}, "n_dims": n_dims}

    def forward(self, windows: Tensor) -> Tensor:
        """Embed windows (B, T, F) as (B, D), each of length 1."""
        return F.normalize(self.projection(self.encoder(windows)), dim=-1)
