"""Keyword Transformer (`tome_audio.models.kwt`): post-norm blocks, separate q, k and v projections."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tome_audio.patch.model import PatchedModel
from tome_audio.patch.padding import token_mask
from tome_audio.patch.prefix import has_hooks, is_own, is_plain_linear, read_prefix
from tome_audio.patch.registry import Adapter, class_names


class KwtClassifier(PatchedModel):
    """Says that the head reads the class token."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Run `KWT.forward`; what is behind `lengths` (B) costs little."""
        forward: Any = super().forward  # type: ignore[misc]
        if self.blocks.adapter.reads_prefix(self):  # type: ignore[attr-defined]
            forward = partial(read_prefix, forward)
        if lengths is None:
            return forward(x)
        with token_mask(self.token_mask(lengths)):  # type: ignore[attr-defined]
            return forward(x)


class KwtAdapter(Adapter):
    """Merges after the first norm, that is between the two post-norm residual branches."""

    name = "KWT"
    encoder_class = "tome_audio.models.kwt.KWT"
    block_class = "tome_audio.models.kwt.KWTBlock"
    encoder_mixin = KwtClassifier

    def n_prefix(self, encoder: Any) -> int:
        return int(encoder.num_prefix_tokens)

    def attend(self, block: Any, x: Tensor, bias: Tensor | None, attn_mask: Tensor | None = None) -> Tensor:
        if attn_mask is not None:
            raise ValueError("attn_mask refers to token positions, which merging changes; set model.r = 0")
        return block.norm1(x + block.attn(x, attn_mask=bias))

    def reads_prefix(self, encoder: nn.Module) -> bool:
        return is_own(encoder, ("forward",), "tome_audio.models.kwt")

    def can_attend_prefix(self, block: Any) -> bool:
        attention = block.attn
        known = class_names(type(attention))[0] == "tome_audio.models.kwt.KWTAttention"
        return known and not has_hooks(attention) and is_plain_linear(attention.q)

    def attend_prefix(self, block: Any, x: Tensor, bias: Tensor | None, n_prefix: int) -> Tensor:
        attention, first = block.attn, x[:, :n_prefix]
        q, k, v = (
            layer(tokens).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((attention.q, first), (attention.k, x), (attention.v, x))
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attention.scale)
        return block.norm1(first + attention.proj(attended.transpose(1, 2).flatten(2)))

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        return block.norm2(x + block.mlp(x))

    def projection(self, block: Any, metric: str) -> nn.Linear:
        return block.attn.k if metric == "key" else block.attn.v

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        n_heads = block.attn.num_heads
        return projected if n_heads == 1 else projected.unflatten(-1, (n_heads, -1)).mean(2)

    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.attn, block.mlp


ADAPTER = KwtAdapter()
