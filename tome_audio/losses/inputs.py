"""What the losses take: shapes of an episode, settings in range, and numbers precise enough to subtract."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available


def wide(x: Tensor) -> Tensor:
    """Return half precision as float32 and anything else as it is: losses live on small differences."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which autocast leaves matrix products of this tensor's device alone."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext()


def check_temperature(temperature: float) -> None:
    """Raise where a temperature cannot be divided by.

    Raises:
        ValueError: Not positive, or not finite.
    """
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")


def check_episodes(queries: Tensor, prototypes: Tensor, *, min_classes: int = 1) -> None:
    """Raise where queries (E, N, q, D) and prototypes (E, N, D) are not of the same episodes.

    Raises:
        ValueError: Wrong shapes or dtypes, or fewer classes than the loss needs.
    """
    fit = queries.ndim == 4 and prototypes.shape == (*queries.shape[:2], queries.shape[-1]) and queries.numel() > 0
    if not fit or not (queries.is_floating_point() and prototypes.is_floating_point()):
        raise ValueError(
            "queries must be floating-point (episodes, classes, queries per class, size) with prototypes (episodes, "
            f"classes, size), got {queries.dtype} of shape {tuple(queries.shape)} and {prototypes.dtype} of shape "
            f"{tuple(prototypes.shape)}"
        )
    if queries.shape[1] < min_classes:
        raise ValueError(
            f"this loss takes its negatives from other classes and needs at least {min_classes} classes, "
            f"got {queries.shape[1]}"
        )
