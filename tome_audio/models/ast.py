"""Audio Spectrogram Transformer (Gong et al., 2021, arXiv 2104.01778) on timm's distilled ViT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from tome_audio.models.imagenet import convert_imagenet
from tome_audio.models.patch_embed import SpectrogramPatchEmbed
from tome_audio.models.pos_embed import from_audioset
from tome_audio.models.strict import load_strict


class Variant(NamedTuple):
    """Size of an encoder, and the timm model that holds its ImageNet weights."""

    width: int
    depth: int
    n_heads: int
    timm_name: str


Pool = Literal["prefix", "token", "avg"]

VARIANTS = {
    "tiny224": Variant(192, 12, 3, "deit_tiny_distilled_patch16_224"),
    "small224": Variant(384, 12, 6, "deit_small_distilled_patch16_224"),
    "base224": Variant(768, 12, 12, "deit_base_distilled_patch16_224"),
    "base384": Variant(768, 12, 12, "deit_base_distilled_patch16_384"),
}


def _encoder_size(
    variant: str | None, width: int | None, depth: int | None, n_heads: int | None
) -> tuple[int, int, int]:
    if variant is not None:
        if variant not in VARIANTS:
            raise ValueError(f"unknown AST variant {variant!r}; choose one of {', '.join(VARIANTS)}, or None")
        if (width, depth, n_heads) != (None, None, None):
            raise ValueError(f"variant {variant!r} fixes width, depth and n_heads; pass variant=None to set them")
        return VARIANTS[variant][:3]
    if width is None or depth is None:
        raise ValueError("variant=None needs width and depth, for example AST(None, width=192, depth=4)")
    n_heads = max(1, width // 64) if n_heads is None else n_heads
    if n_heads < 1 or width % n_heads:
        raise ValueError(f"width {width} can not be split over {n_heads} heads; choose n_heads that divides it")
    return width, depth, n_heads


class AST(nn.Module):
    """Audio Spectrogram Transformer: log-mel spectrogram in, class logits out.

    The module names are those of the official checkpoints: `v` (timm's `VisionTransformerDistilled` without
    its ImageNet heads) and `mlp_head`. Tokens are [class, distillation, patches], patches frequency-major.
    Features are expected as (x - mean) / (2 * std) of 128-bin Kaldi filterbanks.

    Args:
        variant: "tiny224", "small224", "base224" or "base384" (the one with published audio weights), or
            None for an encoder of your own size from `width`, `depth` and `n_heads`.
        n_classes: Outputs of the head; 0 leaves the head's LayerNorm alone, and outputs are embeddings (B, C).
        fstride: Step between patches in mel bins.
        tstride: Step between patches in frames.
        n_mels: Mel bins of the input.
        n_frames: Frames of the input (10 ms each with the usual features).
        patch: Patch side, or (mel bins, frames).
        width: Channels, with variant=None.
        depth: Blocks, with variant=None.
        n_heads: Attention heads, with variant=None; default one per 64 channels.
        mlp_width: Hidden channels of the feed-forward parts; default 4 * width.
        drop_path: Stochastic depth rate of the last block (linear from 0), training only.
        norm_eps: LayerNorm epsilon of the encoder.
        head_norm_eps: LayerNorm epsilon of the head.
        pool: What the head reads: "prefix", the mean of class and distillation token as published, "token", the
            class token alone, or "avg", the mean of the patches.
        labels: Class names in output order, kept as `labels` and saved with checkpoints.
        imagenet_pretrained: Start from timm's ImageNet weights (downloads them); needs a variant.

    Raises:
        ValueError: Sizes that do not fit together.
    """

    num_prefix_tokens = 2

    def __init__(
        self,
        variant: str | None = "base384",
        *,
        n_classes: int = 527,
        fstride: int = 10,
        tstride: int = 10,
        n_mels: int = 128,
        n_frames: int = 1024,
        patch: int | Sequence[int] = 16,
        width: int | None = None,
        depth: int | None = None,
        n_heads: int | None = None,
        mlp_width: int | None = None,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        head_norm_eps: float = 1e-5,
        pool: Pool = "prefix",
        labels: Sequence[str] | None = None,
        imagenet_pretrained: bool = False,
    ) -> None:
        super().__init__()
        size = _encoder_size(variant, width, depth, n_heads)
        sides = (patch, patch) if isinstance(patch, int) else (int(patch[0]), int(patch[1]))
        if n_classes < 0:
            raise ValueError(f"n_classes must not be negative, got {n_classes}")
        if labels is not None and len(labels) != n_classes:
            raise ValueError(f"{len(labels)} labels given for n_classes={n_classes}; give one label per class")
        if pool not in get_args(Pool):
            raise ValueError(f"unknown pool {pool!r}; choose one of {', '.join(get_args(Pool))}")
        if imagenet_pretrained and (variant is None or sides != (16, 16)):
            raise ValueError("imagenet_pretrained=True needs a named variant and 16x16 patches")
        self.n_classes, self.n_mels, self.n_frames = n_classes, n_mels, n_frames
        self.labels = None if labels is None else tuple(labels)
        self.init_args: dict[str, Any] = {
            "variant": variant, "n_classes": n_classes, "fstride": fstride, "tstride": tstride,
            "n_mels": n_mels, "n_frames": n_frames, "patch": list(sides), "width": width, "depth": depth,
            "n_heads": n_heads, "mlp_width": mlp_width, "drop_path": drop_path, "norm_eps": norm_eps,
            "head_norm_eps": head_norm_eps, "pool": pool,
        }  # fmt: skip
        self.v = VisionTransformerDistilled(
            img_size=(n_mels, n_frames),
            patch_size=sides,
            in_chans=1,
            num_classes=0,
            embed_dim=size[0],
            depth=size[1],
            num_heads=size[2],
            # timm floors width * ratio: the half keeps a rounding error from costing one channel
            mlp_ratio=4.0 if mlp_width is None else (mlp_width + 0.5) / size[0],
            drop_path_rate=drop_path,
            norm_layer=partial(nn.LayerNorm, eps=norm_eps),
            embed_layer=partial(SpectrogramPatchEmbed, stride=(fstride, tstride)),
        )
        if pool == "avg":
            self.v.global_pool = "avg"  # says, as in timm, that the head reads patches
        outputs = nn.Linear(size[0], n_classes) if n_classes else nn.Identity()
        self.mlp_head = nn.Sequential(nn.LayerNorm(size[0], eps=head_norm_eps), outputs)
        if imagenet_pretrained and variant is not None:
            self.load_imagenet(timm.create_model(VARIANTS[variant].timm_name, pretrained=True).state_dict())

    @property
    def grid(self) -> tuple[int, int]:
        """Patch grid (f, t), frequency by time."""
        return self.v.patch_embed.grid_size

    @property
    def out_dim(self) -> int:
        """Channels C of tokens, and of embeddings where n_classes is 0."""
        return int(self.v.embed_dim)

    @property
    def n_tokens(self) -> int:
        """Tokens entering the first block: two prefix tokens and f * t patches."""
        return self.num_prefix_tokens + self.grid[0] * self.grid[1]

    def token_mask(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return which tokens (B, N) see any of clips that are `lengths` (B) frames long; prefix tokens always do.

        Raises:
            ValueError: A length is not from 1 to n_frames.
        """
        lengths = torch.as_tensor(lengths)
        if lengths.ndim != 1 or not bool(((lengths >= 1) & (lengths <= self.n_frames)).all()):
            raise ValueError(
                f"lengths must hold frames from 1 to {self.n_frames}, one per clip; got {lengths.tolist()}"
            )
        starts = torch.arange(self.grid[1], device=lengths.device) * self.init_args["tstride"]
        seen = (starts < lengths[:, None])[:, None, :].expand(-1, self.grid[0], -1).flatten(1)
        return torch.cat((seen.new_ones(len(lengths), self.num_prefix_tokens), seen), dim=1)

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode spectrograms (B, T frames, F mel bins) into normalised tokens (B, N, C).

        With `lengths` (B) in frames, no token attends to one that sees only padding.

        Raises:
            ValueError: The input is not (B, n_frames, n_mels).
        """
        if x.ndim != 3 or x.shape[1] != self.n_frames or x.shape[2] != self.n_mels:
            raise ValueError(
                f"AST was given an input of shape {tuple(x.shape)} and expects (batch, {self.n_frames} frames, "
                f"{self.n_mels} mel bins); pad or cut the features, or build the model with other "
                "n_frames and n_mels"
            )
        mask = None if lengths is None else self.token_mask(lengths)[:, None, None, :].to(x.device)
        return self.v.forward_features(x.unsqueeze(1).transpose(2, 3), attn_mask=mask)

    def forward_head(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Classify tokens (B, N, C): what `pool` names, then the head, (B, n_classes).

        With `lengths` (B) in frames, "avg" is the mean of the patches that see any of the clip.
        """
        if self.init_args["pool"] == "token":
            return self.mlp_head(tokens[:, 0])
        if self.init_args["pool"] == "prefix":
            return self.mlp_head((tokens[:, 0] + tokens[:, 1]) / 2)
        patches = tokens[:, self.num_prefix_tokens :]
        if lengths is None:
            return self.mlp_head(patches.mean(1))
        seen = self.token_mask(lengths)[:, self.num_prefix_tokens :, None].to(patches)
        return self.mlp_head((patches * seen).sum(1) / seen.sum(1))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Turn spectrograms (B, T frames, F mel bins) into logits (B, n_classes); `lengths` (B) in frames."""
        return self.forward_head(self.forward_features(x, lengths), lengths)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in training: keep block inputs only, recompute the rest (timm's own)."""
        self.v.set_grad_checkpointing(enable)

    def load_imagenet(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Fill the encoder in place from the state dict of timm's distilled DeiT of the same size.

        Raises:
            ValueError: The weights are not those of a distilled DeiT of this size.
        """
        load_strict(self.v, convert_imagenet(state_dict, self.grid), "the ImageNet state dict", "Choose the same size.")

    @classmethod
    def from_audioset(cls, source: AST, **changes: Any) -> AST:
        """Start a new model from one trained on AudioSet: same encoder, fitted grid, fresh head.

        Args:
            source: Model with strides 10/10 and 1024 frames (grid 12x101).
            **changes: Constructor arguments that differ from the source's: n_classes, n_frames, labels, ...

        Returns:
            A new model; the source is left alone.

        Raises:
            ValueError: The source has another grid, or the encoder sizes differ.
        """
        model = cls(**{**source.init_args, **changes})
        weights = dict(source.v.state_dict())
        weights["pos_embed"] = from_audioset(weights["pos_embed"], model.grid)
        load_strict(model.v, weights, "the AudioSet model", "Keep the encoder's size and patch as they are.")
        return model
