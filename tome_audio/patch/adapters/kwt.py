"""Keyword Transformer (`tome_audio.models.kwt`): post-norm blocks, separate q, k and v projections."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tome_audio.patch.registry import Adapter


class KwtAdapter(Adapter):
    """Merges after the first norm, that is between the two post-norm residual branches."""

    name = "KWT"
    encoder_class = "tome_audio.models.kwt.KWT"
    block_class = "tome_audio.models.kwt.KWTBlock"

    def n_prefix(self, encoder: Any) -> int:
        return int(encoder.num_prefix_tokens)

    def attend(self, block: Any, x: Tensor, bias: Tensor | None, attn_mask: Tensor | None = None) -> Tensor:
        if attn_mask is not None:
            raise ValueError("attn_mask refers to token positions, which merging changes; set model.r = 0")
        return block.norm1(x + block.attn(x, attn_mask=bias))

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        return block.norm2(x + block.mlp(x))

    def projection(self, block: Any, metric: str) -> nn.Linear:
        return block.attn.k if metric == "key" else block.attn.v

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (block.attn.num_heads, -1)).mean(2)

    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.attn, block.mlp


ADAPTER = KwtAdapter()
