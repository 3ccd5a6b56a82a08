"""Small random models, one or more for every adapter. The contract tests run on every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from timm.models._manipulate import checkpoint_seq
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from tome_audio.models import AST, KWT

DEPTH = 3


@dataclass(frozen=True)
class Case:
    """A model of one family: how to build it, what it eats, and how to switch checkpointing on."""

    adapter: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    n_tokens: int
    n_prefix: int
    checkpointing: Callable[[nn.Module, bool], None]


def logits(output):
    """Hugging Face models return an object, the others a tensor."""
    return getattr(output, "logits", output)


class LoopedAst(nn.Module):
    """The module layout of the original AST: an outer module that loops over `self.v.blocks` itself."""

    def __init__(self):
        super().__init__()
        self.v = timm.create_model(
            "deit_tiny_distilled_patch16_224", img_size=(64, 96), in_chans=1, depth=DEPTH, embed_dim=48, num_heads=3
        )
        nn.init.normal_(self.v.dist_token)
        self.mlp_head = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 5))
        self.use_reentrant: bool | None = None

    def forward(self, x):
        v = self.v
        x = v.patch_embed(x.unsqueeze(1).transpose(2, 3))
        x = torch.cat((v.cls_token.expand(len(x), -1, -1), v.dist_token.expand(len(x), -1, -1), x), dim=1)
        x = x + v.pos_embed
        for block in v.blocks:
            x = block(x) if self.use_reentrant is None else checkpoint(block, x, use_reentrant=self.use_reentrant)
        x = v.norm(x)
        return self.mlp_head((x[:, 0] + x[:, 1]) / 2)


def _vit(cls=VisionTransformer, **kwargs):
    def build():
        defaults = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": DEPTH, "num_heads": 3, "num_classes": 5}
        model = cls(**{**defaults, **kwargs})
        # timm starts some parameters at 0 or 1: random values make a forgotten one show.
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model

    return build


def _huggingface(attention):
    def build():
        from transformers import ASTConfig, ASTForAudioClassification

        config = ASTConfig(
            hidden_size=48, num_hidden_layers=DEPTH, num_attention_heads=3, intermediate_size=96, max_length=48,
            num_mel_bins=32, frequency_stride=10, time_stride=10, num_labels=5,
        )  # fmt: skip
        config._attn_implementation = attention
        model = ASTForAudioClassification(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model

    return build


def _ast(**kwargs):
    def build():
        model = AST(None, width=48, depth=DEPTH, n_heads=3, n_classes=5, n_mels=32, n_frames=48, **kwargs)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model

    return build


def _kwt():
    model = KWT(width=32, depth=DEPTH, n_heads=2, mlp_width=64, n_frames=20, n_coefficients=10, n_classes=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def _timm_checkpointing(model, use_reentrant):
    import timm.layers

    timm.layers.set_reentrant_ckpt(use_reentrant)
    model.set_grad_checkpointing(True)


def _looped_checkpointing(model, use_reentrant):
    model.use_reentrant = use_reentrant


def _huggingface_checkpointing(model, use_reentrant):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})


def _kwt_checkpointing(model, use_reentrant):
    # KWT offers the non-reentrant form; the reentrant one is what a user would write around its blocks.
    if use_reentrant:
        model.forward_features = lambda x, lengths=None: checkpoint_seq(
            model.blocks,
            torch.cat((model.cls_token.expand(len(x), -1, -1), model.patch(x)), dim=1) + model.pos_embed,
            use_reentrant=True,
        )
    else:
        model.set_grad_checkpointing(True)


_TIMM = "timm VisionTransformer"
_HF = "Hugging Face AST"
_IMAGE = (3, 64, 64)

CASES: dict[str, Case] = {
    "vit": Case(_TIMM, _vit(), _IMAGE, 17, 1, _timm_checkpointing),
    "vit_layerscale_qknorm": Case(_TIMM, _vit(init_values=0.5, qk_norm=True), _IMAGE, 17, 1, _timm_checkpointing),
    "vit_registers": Case(_TIMM, _vit(reg_tokens=4), _IMAGE, 21, 5, _timm_checkpointing),
    "vit_avgpool": Case(_TIMM, _vit(class_token=False, global_pool="avg"), _IMAGE, 16, 0, _timm_checkpointing),
    "vit_avgpool_class_token": Case(_TIMM, _vit(global_pool="avg"), _IMAGE, 17, 1, _timm_checkpointing),
    "vit_attention_pool": Case(_TIMM, _vit(class_token=False, global_pool="map"), _IMAGE, 16, 0, _timm_checkpointing),
    "deit_distilled": Case(_TIMM, _vit(VisionTransformerDistilled), _IMAGE, 18, 2, _timm_checkpointing),
    "ast": Case(_TIMM, _ast(), (48, 32), 10, 2, _timm_checkpointing),
    "ast_class_token": Case(_TIMM, _ast(pool="token"), (48, 32), 10, 2, _timm_checkpointing),
    "ast_avgpool": Case(_TIMM, _ast(pool="avg"), (48, 32), 10, 2, _timm_checkpointing),
    "ast_original_layout": Case(_TIMM, LoopedAst, (96, 64), 26, 2, _looped_checkpointing),
    "huggingface_eager": Case(_HF, _huggingface("eager"), (48, 32), 10, 2, _huggingface_checkpointing),
    "huggingface_sdpa": Case(_HF, _huggingface("sdpa"), (48, 32), 10, 2, _huggingface_checkpointing),
    "kwt": Case("KWT", _kwt, (20, 10), 21, 1, _kwt_checkpointing),
}
