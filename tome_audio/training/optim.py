"""The optimiser and the learning-rate curve."""

from __future__ import annotations

import math

import torch
from torch import nn

NO_DECAY = ("cls_token", "dist_token", "pos_embed")
"""Parameters whose name contains one of these are never decayed, nor are biases and norms (below 2-d)."""


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay on weight matrices and kernels alone.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            keep = parameter.ndim < 2 or any(part in name for part in NO_DECAY)
            (plain if keep else decay).append(parameter)
    if not decay and not plain:
        raise ValueError("the model has no trainable parameter: set requires_grad on what is to be trained")
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def warmup_cosine(step: int, total_steps: int, warmup: float) -> float:
    """Factor on the learning rate at `step` (from 0): linear rise, then half a cosine down to 0.

    Args:
        step: Steps already taken, in [0, total_steps].
        total_steps: Steps of the whole run.
        warmup: Part of the run spent rising, in [0, 1).
    """
    rise = int(warmup * total_steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total_steps - rise)))
