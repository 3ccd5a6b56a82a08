"""How much attention each token gets from the tokens that the head reads, without leaving the fused kernel.

Only the rows of those one or two queries are computed. The keys are those that attention has just projected.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.patch.registry import Adapter


def n_class_tokens(adapter: Adapter, encoder: nn.Module) -> int:
    """Return how many tokens at the front the head may read: the prefix tokens that are not registers."""
    return adapter.n_prefix(encoder) - int(getattr(encoder, "num_reg_tokens", 0))


def knows(adapter: Adapter) -> bool:
    """Return whether queries and keys of this family can be read."""
    return adapter.name in _QUERIES_AND_KEYS


def class_attention(adapter: Adapter, block: nn.Module, x: Tensor, projected: Tensor, n_class: int) -> Tensor:
    """Return the attention (B, N) from the first tokens to each token: softmax over N, mean over heads and queries.

    Args:
        adapter: the family of the block.
        block: the block.
        x: tokens (B, N, C) entering the block.
        projected: what `adapter.projection(block, "key")` put out for them.
        n_class: how many tokens at the front ask.
    """
    query, key = _QUERIES_AND_KEYS[adapter.name](block, x, projected, n_class)
    scores = (query * query.shape[-1] ** -0.5).transpose(1, 2) @ key.permute(0, 2, 3, 1)
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).mean(dim=(1, 2))


def _timm(block: Any, x: Tensor, projected: Tensor, n_class: int) -> tuple[Tensor, Tensor]:
    attention = block.attn
    query, key, _ = projected.unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    return attention.q_norm(query[:, :n_class]), attention.k_norm(key)


def _huggingface(block: Any, x: Tensor, projected: Tensor, n_class: int) -> tuple[Tensor, Tensor]:
    attention = block.attention
    query = attention.q_proj(block.layernorm_before(x[:, :n_class]))
    return _heads(query, attention.num_attention_heads), _heads(projected, attention.num_attention_heads)


def _kwt(block: Any, x: Tensor, projected: Tensor, n_class: int) -> tuple[Tensor, Tensor]:
    heads = block.attn.num_heads
    return _heads(block.attn.q(x[:, :n_class]), heads), _heads(projected, heads)


def _heads(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1))


# Queries (B, n_class, heads, head size) and keys (B, N, heads, head size) of a block.
_QUERIES_AND_KEYS = {"timm VisionTransformer": _timm, "Hugging Face AST": _huggingface, "KWT": _kwt}
