"""A few-shot network: an encoder that embeds clips, and what is learnt on top of its embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tome_audio.models.ast import AST
from tome_audio.models.cnn import SpectrogramCNN
from tome_audio.models.few_shot_encoders import CRNN, ConvEncoder
from tome_audio.models.few_shot_heads import ProjectionHead, RelationHead, ViewFusion

ENCODERS: Mapping[str, Any] = {"ast": AST, "cnn": ConvEncoder, "crnn": CRNN, "timm": SpectrogramCNN}
"""By the name that configs use: each maps spectrograms (B, T, F) to embeddings (B, D), AST and timm with 0 classes."""


class FewShotHead(nn.Module):
    """Embeddings of an episode to prototypes, and what the losses and the classifier need beside them.

    Args:
        dim: Size D of the encoder's embeddings.
        n_views: Views V of a clip that are fused.
        fusion: Let the V views of a clip attend to each other and join them to one embedding of size V * D. Otherwise
            every view is a further clip of its class.
        projection: Hidden and output size of a projection that a contrastive loss reads; None has none.
        project_prototypes: Whether prototypes go through the projection too; otherwise they are only normalised.
        relation: Whether queries are compared with prototypes by a small network instead of a distance.

    Raises:
        ValueError: Sizes that do not fit together.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_views: int = 1,
        fusion: bool = False,
        projection: Sequence[int] | None = None,
        project_prototypes: bool = True,
        relation: bool = False,
    ) -> None:
        super().__init__()
        if fusion and n_views < 2:
            raise ValueError(f"fusion joins the views of a clip: it needs 2 at least, got n_views={n_views}")
        self.n_views, self.project_prototypes = n_views, project_prototypes
        self.dim = dim * n_views if fusion else dim
        self.fusion = ViewFusion(dim) if fusion else None
        self.projection: ProjectionHead | None = None
        if projection is not None:
            hidden, out = projection
            if not project_prototypes and out != self.dim:
                raise ValueError(
                    f"prototypes of size {self.dim} cannot be compared with queries projected to {out}: set "
                    f"project_prototypes, or project to {self.dim}"
                )
            self.projection = ProjectionHead(self.dim, hidden, out)
        self.relation = RelationHead(self.dim) if relation else None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to learn here."""
        return not any(True for _ in self.parameters())

    def embed(self, views: Tensor) -> Tensor:
        """Turn views (..., V, D) into what is compared (..., V', D'): one fused embedding, or every view by itself.

        Raises:
            ValueError: Views that fusion was not made for.
        """
        if self.fusion is None:
            return views
        if views.shape[-2] == 1:
            views = views.expand(*views.shape[:-2], self.n_views, views.shape[-1])
        if views.shape[-2] != self.n_views:
            raise ValueError(f"fusion was made for {self.n_views} views of a clip, got {views.shape[-2]}")
        fused: Tensor = self.fusion(views.flatten(0, -3))
        return fused.unflatten(0, views.shape[:-2]).unsqueeze(-2)

    def forward(self, support: Tensor, query: Tensor) -> dict[str, Tensor]:
        """Return by name what an episode comes to.

        Args:
            support: Embedded views (E, N, k, V, D) of the clips to learn from.
            query: Embedded views (E, N, q, V', D) of the clips to be asked.

        Returns:
            prototypes (E, N, D') and query (E, N, q * V', D'); with a projection also anchors (E, N, P) and
            projected (E, N, q * V', P), of length 1; with a relation head scores (E, N, q * V', N).
        """
        learnt = self.embed(support).flatten(2, 3)
        mean = learnt.to(torch.promote_types(learnt.dtype, torch.float32)).mean(2)  # not in half precision
        found = {"prototypes": mean, "query": self.embed(query).flatten(2, 3)}
        if self.projection is not None:
            # Another order of the views: the contrastive loss asks for embeddings that do not depend on it.
            asked = found["query"]
            if self.fusion is not None and self.training:
                asked = self.embed(query[..., torch.randperm(query.shape[-2]), :]).flatten(2, 3)
            found["projected"] = self.projection(asked)
            project = self.projection if self.project_prototypes else _normalised
            found["anchors"] = project(found["prototypes"])
        if self.relation is not None:
            flat = found["query"].flatten(1, 2)
            found["scores"] = self.relation(flat, found["prototypes"]).unflatten(1, found["query"].shape[1:3])
        return found


class FewShotNetwork(nn.Module):
    """An encoder and a `FewShotHead`; saved and loaded as every other model.

    Args:
        encoder: A name in `ENCODERS`.
        encoder_args: The encoder's arguments.
        head_args: Arguments of `FewShotHead` but `dim`.
        labels: Classes it was trained on, kept as `labels` and saved with checkpoints.

    Raises:
        ValueError: An unknown encoder, or arguments that do not fit.
    """

    def __init__(
        self,
        encoder: str,
        encoder_args: Mapping[str, Any],
        head_args: Mapping[str, Any] | None = None,
        *,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {encoder!r}; choose one of {', '.join(ENCODERS)}")
        given = {**encoder_args, **({"n_classes": 0} if encoder in ("ast", "timm") else {})}
        self.encoder: Any = ENCODERS[encoder](**given)
        self.head = FewShotHead(self.encoder.out_dim, **(head_args or {}))
        self.labels = None if labels is None else tuple(labels)
        self.init_args = {"encoder": encoder, "encoder_args": given, "head_args": dict(head_args or {})}

    def encode(self, clips: Tensor) -> Tensor:
        """Embed spectrograms (..., T, F) as (..., D)."""
        found: Tensor = self.encoder(clips.flatten(0, -3))
        return found.unflatten(0, clips.shape[:-2])

    def forward(self, support: Tensor, query: Tensor) -> dict[str, Tensor]:
        """Return what `FewShotHead` does; all clips of the episodes go through the encoder in one batch.

        Args:
            support: (E, N, k, V, T, F).
            query: (E, N, q, V', T, F).
        """
        flat = torch.cat([support.flatten(0, 3), query.flatten(0, 3)])
        first, second = self.encode(flat).split([support.shape[:4].numel(), query.shape[:4].numel()])
        found: dict[str, Tensor] = self.head(
            first.unflatten(0, support.shape[:4]), second.unflatten(0, query.shape[:4])
        )
        return found


def _normalised(values: Tensor) -> Tensor:
    return F.normalize(values, dim=-1)
