"""DeiT weights trained on ImageNet, rewritten as the encoder of an AST."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from tome_audio.models.pos_embed import from_imagenet

_DEAD = ("head.", "head_dist.")


def convert_imagenet(state_dict: Mapping[str, torch.Tensor], grid: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Rewrite a distilled DeiT's state dict for spectrograms.

    The three colour channels of the patch kernel are summed, its bias is copied, the positional embedding is
    fitted to the new grid, and the two ImageNet heads are left out (arXiv 2104.01778, section 2.2).

    Args:
        state_dict: State dict of timm's `deit_*_distilled_patch16_*`, patch kernel (C, 3, 16, 16).
        grid: Patch grid (f, t) of the AST.

    Returns:
        Weights for the `v` module of an AST with that grid. The given tensors are not changed.

    Raises:
        ValueError: The state dict is not that of a distilled DeiT with a square grid.
    """
    needed = ("dist_token", "pos_embed", "patch_embed.proj.weight")
    absent = [key for key in needed if key not in state_dict]
    if absent:
        raise ValueError(
            f"these are not the weights of a distilled DeiT: {', '.join(absent)} missing; "
            "use one of timm's deit_*_distilled_patch16_* models"
        )
    side = math.isqrt(state_dict["pos_embed"].shape[1] - 2)
    weights = {key: value.clone() for key, value in state_dict.items() if not key.startswith(_DEAD)}
    weights["patch_embed.proj.weight"] = state_dict["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    weights["pos_embed"] = from_imagenet(state_dict["pos_embed"], (side, side), grid)
    return weights
