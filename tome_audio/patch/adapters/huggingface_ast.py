"""Hugging Face AST (transformers 5): `ASTModel`, `ASTForAudioClassification`, pipelines; eager and sdpa attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.patch.model import PatchedModel
from tome_audio.patch.registry import Adapter, UnsupportedModelError

_MODULE = "transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer"
_MASK = "attention_mask refers to token positions, which merging changes; leave it out, or set model.r = 0"


class HuggingFaceAstEncoder(PatchedModel):
    """Refuses a mask from the caller, where the blocks could no longer tell it from the model's own."""

    def forward(self, input_values: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Run `ASTModel.forward`.

        Raises:
            ValueError: if a mask is given while tokens are merged.
        """
        if attention_mask is not None and any(self.layers.schedule):  # type: ignore[attr-defined]
            raise ValueError(_MASK)
        return super().forward(input_values, attention_mask=attention_mask, **kwargs)  # type: ignore[misc]


class HuggingFaceAstAdapter(Adapter):
    """Merges between the two residual branches of `ASTLayer`; both prefix tokens (class, distillation) stay."""

    name = "Hugging Face AST"
    encoder_class = f"{_MODULE}.ASTModel"
    block_class = f"{_MODULE}.ASTLayer"
    blocks = "layers"
    encoder_mixin = HuggingFaceAstEncoder

    def n_prefix(self, encoder: nn.Module) -> int:
        return 2

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

    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        return block.dropout(block.mlp(block.layernorm_after(x))) + x

    def projection(self, block: Any, metric: str) -> nn.Linear:
        return block.attention.k_proj if metric == "key" else block.attention.v_proj

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (block.attention.num_attention_heads, -1)).mean(2)

    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.attention, block.mlp


ADAPTER = HuggingFaceAstAdapter()
