"""The optimiser and the learning-rate curve."""

from __future__ import annotations

import math

import torch
from torch import nn

NO_DECAY = ("cls_token", "dist_token", "pos_embed")
"""Parameters whose name contains one of these are never decayed, nor are biases and norms (below 2-d)."""

AST_BETAS = (0.95, 0.999)
"""Of Adam in every recipe of AST (Gong et al., 2021, arXiv 2104.01778), beside a weight decay of 5e-7."""


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay on weight matrices and kernels alone.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in _trainable(model):
        keep = parameter.ndim < 2 or any(part in name for part in NO_DECAY)
        (plain if keep else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)


def make_adam(
    model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = AST_BETAS
) -> torch.optim.Adam:
    """Adam over the trainable parameters as in AST: weight decay is an L2 penalty, on all of them alike.

    Raises:
        ValueError: The model has no trainable parameter.
    """
    parameters = [parameter for _, parameter in _trainable(model)]
    return torch.optim.Adam(parameters, lr=lr, betas=betas, weight_decay=weight_decay)


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


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    found = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not found:
        raise ValueError("the model has no trainable parameter: set requires_grad on what is to be trained")
    return found
