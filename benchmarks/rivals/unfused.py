"""Attention as it was written in 2023: softmax(q k^T * scale + bias) v, with the N x N weights in memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tome_audio.models.kwt import KWTAttention
from tome_audio.patch.registry import find_encoders


class UnfusedKWTAttention(KWTAttention):
    """The attention of KWT without the fused kernel.

    Written out, not the math backend of `scaled_dot_product_attention`: that one computes bfloat16 in float32 and
    scales queries and keys one by one, which made it slower than the plain form in every size tried.
    """

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend over tokens (B, N, C); `attn_mask` is added to the scores and broadcasts to (B, heads, N, N)."""
        q, k, v = self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x))
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores + attn_mask
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def unfuse_(model: nn.Module) -> None:
    """Make every attention of the model compute its weights in the open, in place.

    Raises:
        ValueError: if it is not known how to do so for a family.
    """
    for encoder, adapter in find_encoders(model):
        if adapter.name not in _UNFUSE:
            raise ValueError(f"no unfused attention is written for {adapter.name!r}; add it to rivals/unfused.py")
        _UNFUSE[adapter.name](encoder)


def _unfuse_timm(encoder: Any) -> None:
    for block in encoder.blocks:
        block.attn.fused_attn = False


def _unfuse_huggingface(encoder: Any) -> None:
    encoder.set_attn_implementation("eager")


def _unfuse_kwt(encoder: Any) -> None:
    for block in encoder.blocks:
        block.attn.__class__ = UnfusedKWTAttention


_UNFUSE = {
    "timm VisionTransformer": _unfuse_timm,
    "Hugging Face AST": _unfuse_huggingface,
    "KWT": _unfuse_kwt,
}
