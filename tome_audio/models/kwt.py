"""Keyword Transformer (Berg et al., 2021, arXiv 2104.00769): a small transformer over time frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.activations import GELUTanh
from timm.layers.mlp import Mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

from tome_audio.models.kwt_frontend import KWTFrontend


class KWTAttention(nn.Module):
    """Multi-head self-attention with separate q, k, v (no bias) and an output projection."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if n_heads < 1 or width % n_heads:
            raise ValueError(f"width {width} can not be split over {n_heads} heads; choose n_heads that divides it")
        self.num_heads, self.head_dim = n_heads, width // n_heads
        self.scale = self.head_dim**-0.5
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend over tokens (B, N, C); `attn_mask` is added to the scores and broadcasts to (B, heads, N, N)."""
        q, k, v = self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=self.scale)
        return self.proj(x.transpose(1, 2).flatten(2))


class KWTBlock(nn.Module):
    """Post-norm transformer block: x = norm1(x + attn(x)), then x = norm2(x + mlp(x))."""

    def __init__(self, width: int, n_heads: int, mlp_width: int, norm_eps: float) -> None:
        super().__init__()
        self.attn = KWTAttention(width, n_heads)
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, act_layer=GELUTanh)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Transform tokens (B, N, C); `attn_mask` is added to the attention scores."""
        x = self.norm1(x + self.attn(x, attn_mask))
        return self.norm2(x + self.mlp(x))


class KWT(nn.Module):
    """Keyword Transformer: one token per time frame and a class token, waveform in, logits out.

    The defaults are KWT-1. The weights start at random (truncated normal, standard deviation 0.02);
    `kwt_checkpoint.load_kwt` gives the pretrained model.

    Args:
        width: Channels.
        depth: Blocks.
        n_heads: Attention heads.
        mlp_width: Hidden channels of the feed-forward parts.
        n_frames: Time frames per clip.
        n_coefficients: Cepstral coefficients per frame.
        n_classes: Outputs of the head.
        norm_eps: LayerNorm epsilon.
        labels: Class names in output order, kept as `labels` and saved with checkpoints.

    Raises:
        ValueError: The width can not be split over the heads, or the labels do not fit the classes.
    """

    num_prefix_tokens = 1

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 12,
        n_heads: int = 1,
        mlp_width: int = 256,
        n_frames: int = 98,
        n_coefficients: int = 40,
        n_classes: int = 12,
        norm_eps: float = 1e-6,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if labels is not None and len(labels) != n_classes:
            raise ValueError(f"{len(labels)} labels given for n_classes={n_classes}; give one label per class")
        self.init_args: dict[str, Any] = {
            "width": width, "depth": depth, "n_heads": n_heads, "mlp_width": mlp_width, "n_frames": n_frames,
            "n_coefficients": n_coefficients, "n_classes": n_classes, "norm_eps": norm_eps,
        }  # fmt: skip
        self.n_classes, self.n_frames, self.n_coefficients = n_classes, n_frames, n_coefficients
        self.labels = None if labels is None else tuple(labels)
        self.grad_checkpointing = False
        self.frontend = KWTFrontend(n_frames=n_frames, n_coefficients=n_coefficients)
        self.patch = nn.Linear(n_coefficients, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, n_frames + 1, width))
        self.blocks = nn.ModuleList(KWTBlock(width, n_heads, mlp_width, norm_eps) for _ in range(depth))
        self.head = nn.Linear(width, n_classes)
        self._init_weights()

    def _init_weights(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in training: keep block inputs only and recompute the rest."""
        self.grad_checkpointing = enable

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 2:
            return self.frontend(x)
        if x.ndim == 3 and tuple(x.shape[1:]) == (self.n_frames, self.n_coefficients):
            return x
        raise ValueError(
            f"KWT was given an input of shape {tuple(x.shape)} and expects waveforms (batch, samples) at 16 kHz, "
            f"or features (batch, {self.n_frames} frames, {self.n_coefficients} coefficients)"
        )

    def token_mask(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return which tokens (B, N) belong to clips that are `lengths` (B) frames long; the class token always does.

        Raises:
            ValueError: A length is not from 1 to n_frames.
        """
        lengths = torch.as_tensor(lengths)
        if lengths.ndim != 1 or not bool(((lengths >= 1) & (lengths <= self.n_frames)).all()):
            raise ValueError(
                f"lengths must hold frames from 1 to {self.n_frames}, one per clip; got {lengths.tolist()}"
            )
        return torch.arange(self.n_frames + 1, device=lengths.device) <= lengths[:, None]

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode waveforms (B, T) or features (B, n_frames, n_coefficients) into tokens (B, N, C).

        With `lengths` (B) in frames, no token attends to one behind the end of its clip.

        Raises:
            ValueError: The input has neither of these shapes.
        """
        x = self.patch(self._features(x))
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype), x), dim=1) + self.pos_embed
        mask = () if lengths is None else (self.token_mask(lengths)[:, None, None, :].to(x.device),)
        recompute = self.grad_checkpointing and self.training
        for block in self.blocks:
            x = checkpoint(block, x, *mask, use_reentrant=False) if recompute else block(x, *mask)
        return x

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Turn waveforms (B, T samples at 16 kHz) or features into logits (B, n_classes); `lengths` (B) in frames."""
        return self.head(self.forward_features(x, lengths)[:, 0])
