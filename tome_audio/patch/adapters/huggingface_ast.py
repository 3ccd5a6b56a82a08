"""Hugging Face AST (transformers 5): `ASTModel`, `ASTForAudioClassification`, pipelines; eager and sdpa attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tome_audio.patch.model import PatchedModel
from tome_audio.patch.padding import token_mask
from tome_audio.patch.prefix import has_hooks, read_prefix
from tome_audio.patch.registry import Adapter, UnsupportedModelError

_MODULE = "transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer"
_MASK = (
    "while tokens merge, attention_mask must be (clips, tokens) and say which tokens are no padding; for any other "
    "mask set model.r = 0"
)


class HuggingFaceAstEncoder(PatchedModel):
    """Takes a mask from the caller as the tokens that are no padding, while tokens merge."""

    def forward(self, input_values: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Run `ASTModel.forward`.

        Raises:
            ValueError: if the mask is not (B, N) while tokens are merged.
        """
        if attention_mask is None or not self.layers.merges:  # type: ignore[attr-defined]
            return super().forward(input_values, attention_mask=attention_mask, **kwargs)  # type: ignore[misc]
        if attention_mask.ndim != 2:
            raise ValueError(_MASK)
        with token_mask(attention_mask != 0):
            return super().forward(input_values, **kwargs)  # type: ignore[misc]


class HuggingFaceAstClassifier(PatchedModel):
    """Says that the head reads both prefix tokens, unless the caller wants the hidden states."""

    def forward(
        self,
        input_values: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run `ASTForAudioClassification.forward`."""
        forward: Any = super().forward  # type: ignore[misc]
        config: Any = self.config  # type: ignore[attr-defined]
        if any(
            kwargs.get(name) or getattr(config, name, False) for name in ("output_hidden_states", "output_attentions")
        ):
            return forward(input_values, labels=labels, attention_mask=attention_mask, **kwargs)
        return read_prefix(forward, input_values, labels=labels, attention_mask=attention_mask, **kwargs)


class HuggingFaceAstAdapter(Adapter):
    """Merges between the two residual branches of `ASTLayer`; both prefix tokens (class, distillation) stay."""

    name = "Hugging Face AST"
    encoder_class = f"{_MODULE}.ASTModel"
    block_class = f"{_MODULE}.ASTLayer"
    blocks = "layers"
    encoder_mixin = HuggingFaceAstEncoder
    classifiers: ClassVar = {f"{_MODULE}.ASTForAudioClassification": HuggingFaceAstClassifier}

    def n_prefix(self, encoder: nn.Module) -> int:
        return 2

    def grid_rows(self, encoder: Any) -> int:
        config = encoder.config
        return int((config.num_mel_bins - config.patch_size) // config.frequency_stride + 1)

    def attend(
        self, block: Any, x: Tensor, bias: Tensor | None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        chosen = block.attention.config._attn_implementation
        if chosen not in ("eager", "sdpa"):
            raise UnsupportedModelError(
                f"attention {chosen!r} cannot weigh merged tokens by their size: call "
                'model.set_attn_implementation("sdpa")'
            )
        # While compiling, transformers makes a mask that hides nothing; the encoder above has refused any other.
        if attention_mask is not None and not torch.compiler.is_compiling():
            raise ValueError(_MASK)
        attended, _ = block.attention(block.layernorm_before(x), bias, **kwargs)
        return block.dropout(attended) + x

    def is_masked(self, *args: Any, **kwargs: Any) -> bool:
        # While compiling, transformers makes a mask that hides nothing.
        mask = args[0] if args else kwargs.get("attention_mask")
        return mask is not None and not torch.compiler.is_compiling()

    def can_attend_prefix(self, block: Any) -> bool:
        attention = block.attention
        return (
            type(attention).__name__ == "ASTAttention"
            and attention.config._attn_implementation == "sdpa"
            and not has_hooks(attention)
        )

    def attend_prefix(self, block: Any, x: Tensor, bias: Tensor | None, n_prefix: int) -> Tensor:
        attention, normed = block.attention, block.layernorm_before(x)
        q, k, v = (
            layer(tokens).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for layer, tokens in (
                (attention.q_proj, normed[:, :n_prefix]),
                (attention.k_proj, normed),
                (attention.v_proj, normed),
            )
        )
        dropout = attention.attention_dropout if attention.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=attention.scaling)
        return block.dropout(attention.o_proj(attended.transpose(1, 2).flatten(2))) + x[:, :n_prefix]

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        return block.dropout(block.mlp(block.layernorm_after(x))) + x

    def projection(self, block: Any, metric: str) -> nn.Linear:
        return block.attention.k_proj if metric == "key" else block.attention.v_proj

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (block.attention.num_attention_heads, -1)).mean(2)

    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.attention, block.mlp


ADAPTER = HuggingFaceAstAdapter()
