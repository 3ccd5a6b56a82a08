"""Drop tokens between attention and feed-forward, where merging merges them: same tokens per layer at equal r."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rivals.class_attention import class_attention, knows, n_class_tokens
from rivals.copies import check_split, own_copy
from tome_audio.merge import Rate, clamp_r, expand_schedule
from tome_audio.patch.recording import add_recorder, record
from tome_audio.patch.registry import Adapter, find_encoders

MAX_TOKENS = 2**14


class DroppingBlock(nn.Module):
    """Runs a block and drops r of its patch tokens halfway; the tokens that stay keep their order.

    r is clamped like that of merging, so that both leave the same number of tokens.
    """

    def __init__(self, block: nn.Module, adapter: Adapter, encoder: nn.Module, r: int) -> None:
        super().__init__()
        self.block, self.adapter, self.r = block, adapter, r
        self.n_prefix = adapter.n_prefix(encoder)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block: (B, N, C) -> (B, N - r, C)."""
        r = clamp_r(self.r, x.shape[1], self.n_prefix)
        if r == 0:
            x = self.adapter.attend(self.block, x, None, *args, **kwargs)
        else:
            x = self.attend_and_drop(r, x, *args, **kwargs)
        return self.adapter.feed_forward(self.block, x)

    @abstractmethod
    def attend_and_drop(self, r: int, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the attention part and drop r > 0 tokens: (B, N, C) -> (B, N - r, C)."""


class TopKBlock(DroppingBlock):
    """Drops the patch tokens that get the least attention from the class tokens."""

    def __init__(self, block: nn.Module, adapter: Adapter, encoder: nn.Module, r: int) -> None:
        super().__init__(block, adapter, encoder, r)
        self.n_class = n_class_tokens(adapter, encoder)
        add_recorder(adapter.projection(block, "key"))

    def attend_and_drop(self, r: int, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run attention with its fused kernel, and the class tokens' rows of it once more for the weights."""
        projection = self.adapter.projection(self.block, "key")
        attended, projected = record(projection, self.adapter.attend, self.block, x, None, *args, **kwargs)
        score = class_attention(self.adapter, self.block, x, projected, self.n_class)[:, self.n_prefix :]
        kept = score.topk(score.shape[1] - r, dim=-1, sorted=False).indices.sort(dim=-1).values
        return _gather_rows(attended, self.n_prefix, kept)


class RandomDropBlock(DroppingBlock):
    """Drops random patch tokens: the same for each clip and each call, others in each block."""

    order: Tensor

    def __init__(self, block: nn.Module, adapter: Adapter, encoder: nn.Module, r: int, seed: int) -> None:
        super().__init__(block, adapter, encoder, r)
        # Drawn once: a generator in forward would cost time, and would break the graph of a compiled model.
        order = torch.randperm(MAX_TOKENS, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order.to(next(block.parameters()).device), persistent=False)

    def attend_and_drop(self, r: int, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run attention, then keep the patch tokens that come first in a random order."""
        n_patches = x.shape[1] - self.n_prefix
        if n_patches > MAX_TOKENS:
            raise ValueError(f"random-drop orders at most {MAX_TOKENS} patch tokens, got {n_patches}; raise MAX_TOKENS")
        kept = self.order[:n_patches].argsort()[: n_patches - r].sort().values + self.n_prefix
        attended = self.adapter.attend(self.block, x, None, *args, **kwargs)
        prefix = torch.arange(self.n_prefix, device=x.device)
        return attended.index_select(1, torch.cat((prefix, kept)))


def topk_class(model: nn.Module, r: Rate) -> nn.Module:
    """Return a copy that drops the r patch tokens with the least class attention in each block, without training.

    As in EViT (Liang et al., ICLR 2022, arXiv 2202.07800) without its fused leftover token. Where the head reads two
    tokens the mean of both decides.

    Raises:
        ValueError: if the model has no class token, its head pools patches, or `r` is not understood.
    """
    return _wrap_blocks(model, r, lambda layer, *parts: TopKBlock(*parts), needs_class=True)


def random_drop(model: nn.Module, r: Rate, seed: int = 0) -> nn.Module:
    """Return a copy that drops r random patch tokens in each block.

    Raises:
        ValueError: if the model's head pools patches, or `r` is not understood.
    """

    def wrap(layer: int, block: nn.Module, adapter: Adapter, encoder: nn.Module, amount: int) -> RandomDropBlock:
        return RandomDropBlock(block, adapter, encoder, amount, seed + layer)

    return _wrap_blocks(model, r, wrap, needs_class=False)


def _wrap_blocks(model: nn.Module, r: Rate, wrap: Callable[..., DroppingBlock], needs_class: bool) -> nn.Module:
    """Return a copy whose blocks are `wrap(layer, block, adapter, encoder, r of the layer)`."""
    model = own_copy(model)
    check_split(model)
    for encoder, adapter in list(find_encoders(model)):
        _check_head(encoder, adapter, needs_class)
        blocks: Any = getattr(encoder, adapter.blocks)
        for layer, amount in enumerate(expand_schedule(r, len(blocks))):
            blocks[layer] = wrap(layer, blocks[layer], adapter, encoder, amount)
    return model


def _check_head(encoder: nn.Module, adapter: Adapter, needs_class: bool) -> None:
    name = type(encoder).__name__
    if adapter.pools_patches(encoder):
        raise ValueError(
            f"the head of this {name} pools patch tokens, which dropping would take from it; use a model whose head "
            "reads a class token, or measure merging only"
        )
    if needs_class and (n_class_tokens(adapter, encoder) < 1 or not knows(adapter)):
        raise ValueError(
            f"topk-class needs a class token whose queries it can read, and this {name} ({adapter.name}) has none; "
            "add its family to rivals/class_attention.py, or leave the method out"
        )


def _gather_rows(x: Tensor, n_prefix: int, kept: Tensor) -> Tensor:
    """Return the P prefix tokens and, of the patch tokens behind them, those `kept` (B, K): (B, P + K, C)."""
    batch, n_tokens, width = x.shape
    prefix = torch.arange(n_prefix, device=x.device).expand(batch, -1)
    rows = torch.cat((prefix, kept + n_prefix), dim=1)
    start = torch.arange(batch, device=x.device)[:, None] * n_tokens
    return x.reshape(-1, width).index_select(0, (rows + start).flatten()).view(batch, -1, width)
