"""timm VisionTransformer and its kin: ViT, DeiT, distilled DeiT, registers, LayerScale, q/k-norm; AST built on them.

Serves `timm.models.vision_transformer.Block` (timm 1.0, pre-norm). Also found inside outer modules such as AST's, which
may loop over `self.v.blocks` themselves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from tome_audio.patch.model import PatchedModel
from tome_audio.patch.padding import token_mask
from tome_audio.patch.prefix import has_hooks, is_own, is_plain_linear, read_prefix
from tome_audio.patch.registry import Adapter, class_names


class TimmEncoder(PatchedModel):
    """Guards what needs all tokens after every block."""

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Run timm's own, which lays the tokens of each block out on the patch grid.

        Raises:
            ValueError: if tokens are merged and not given back, since they no longer fill the grid.
        """
        blocks = self.blocks  # type: ignore[attr-defined]
        if blocks.merges and not blocks.config.unmerge:
            raise ValueError(
                "forward_intermediates needs every patch after every block; patch with "
                "apply_patch(model, r=..., unmerge=True), or set model.r = 0"
            )
        return super().forward_intermediates(*args, **kwargs)  # type: ignore[misc]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run timm's own: (B, channels, height, width) to logits (B, K)."""
        forward: Any = super().forward  # type: ignore[misc]
        if self.blocks.adapter.reads_prefix(self):  # type: ignore[attr-defined]
            return read_prefix(forward, x, *args, **kwargs)
        return forward(x, *args, **kwargs)

    def reset_classifier(self, *args: Any, **kwargs: Any) -> None:
        """Run timm's own, and give every token back to the new head if it pools patches."""
        super().reset_classifier(*args, **kwargs)  # type: ignore[misc]
        blocks = self.blocks  # type: ignore[attr-defined]
        blocks.__dict__["restore"] = blocks.adapter.pools_patches(self)


class AstClassifier(PatchedModel):
    """Says that AST's head reads the class and the distillation token, where it does."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run `AST.forward`: spectrograms (B, T, F) to logits (B, K); what is behind `lengths` (B) costs little."""
        own: Any = super().forward  # type: ignore[misc]
        ast: Any = self
        pools: bool = ast.v.blocks.restore
        if lengths is None:
            return own(x) if pools else read_prefix(own, x)
        with token_mask(ast.token_mask(lengths), head_masks=pools):
            return ast.forward_head(ast.forward_features(x), lengths) if pools else read_prefix(own, x)


class TimmAdapter(Adapter):
    """Merges between the two residual branches of timm's pre-norm `Block`."""

    name = "timm VisionTransformer"
    encoder_class = "timm.models.vision_transformer.VisionTransformer"
    block_class = "timm.models.vision_transformer.Block"
    encoder_mixin = TimmEncoder
    classifiers: ClassVar = {"tome_audio.models.ast.AST": AstClassifier}

    def n_prefix(self, encoder: Any) -> int:
        return int(encoder.num_prefix_tokens)

    def grid_rows(self, encoder: Any) -> int:
        embed = encoder.patch_embed
        rows, columns = getattr(embed, "grid_size", None) or (1, 1)
        # The original AST replaces the projection and the number of patches, and leaves the grid of the image model.
        kernel = getattr(getattr(embed, "proj", None), "kernel_size", None)
        known = kernel is None or tuple(kernel) == tuple(getattr(embed, "patch_size", kernel))
        return int(rows) if columns > 1 and known else 1

    def pools_patches(self, encoder: Any) -> bool:
        return encoder.global_pool not in ("", "token")

    def attend(
        self, block: Any, x: Tensor, bias: Tensor | None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        if attn_mask is not None or is_causal:
            raise ValueError("attn_mask and is_causal refer to token positions, which merging changes; set model.r = 0")
        return x + block.drop_path1(block.ls1(block.attn(block.norm1(x), attn_mask=bias)))

    def reads_prefix(self, encoder: Any) -> bool:
        names = ("forward", "forward_features", "forward_head", "pool")
        return encoder.global_pool == "token" and is_own(encoder, names, "timm.models.")

    def can_attend_prefix(self, block: Any) -> bool:
        attention = block.attn
        return (
            class_names(type(attention))[0] == "timm.layers.attention.Attention"
            and attention.fused_attn
            and is_plain_linear(attention.qkv)
            and not has_hooks(attention)
        )

    def attend_prefix(self, block: Any, x: Tensor, bias: Tensor | None, n_prefix: int) -> Tensor:
        attention, normed = block.attn, block.norm1(x)
        width, weight, shift = attention.num_heads * attention.head_dim, attention.qkv.weight, attention.qkv.bias
        first = normed[:, :n_prefix]
        q = F.linear(first, weight[:width], None if shift is None else shift[:width])
        kv = F.linear(normed, weight[width:], None if shift is None else shift[width:])
        q, k, v = (t.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for t in (q, *kv.chunk(2, dim=-1)))
        dropout = attention.attn_drop.p if attention.training else 0.0
        attended = F.scaled_dot_product_attention(
            attention.q_norm(q), attention.k_norm(k), v, attn_mask=bias, dropout_p=dropout
        )
        attended = attention.norm(attended.transpose(1, 2).flatten(2))
        if getattr(attention, "gate", None) is not None:
            attended = attended * attention.gate(first).sigmoid()
        attended = attention.proj_drop(attention.proj(attended))
        return x[:, :n_prefix] + block.drop_path1(block.ls1(attended))

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))

    def projection(self, block: Any, metric: str) -> nn.Linear:
        return block.attn.qkv

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        attention = block.attn
        part = projected.chunk(3, dim=-1)[1 if metric == "key" else 2]
        heads = part.unflatten(-1, (attention.num_heads, -1))
        return (attention.k_norm(heads) if metric == "key" else heads).mean(2)

    def attention_width(self, block: Any) -> int:
        return block.attn.qkv.out_features // 3

    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.attn, block.mlp


ADAPTER = TimmAdapter()
