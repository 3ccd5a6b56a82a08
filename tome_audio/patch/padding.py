"""Which tokens of a batch are padding: said by the caller around a call, read by the block list inside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_told = threading.local()


@contextmanager
def token_mask(valid: Tensor | None, *, head_masks: bool = False) -> Iterator[None]:
    """Tell patched models called in this context (and thread) which tokens are no padding.

    Padding is dropped before the first block as far as every clip allows, takes part in no attention and in no merge,
    and each clip gets what it would get alone. Without a mask (None) every token counts.

    Args:
        valid: (B, N) bool, True for a token that sees any of the clip; N as they enter the first block, prefix
            included. Prefix tokens must be True.
        head_masks: The model's head pools patches and leaves out those of the mask by itself. Others that pool are
            refused.
    """
    before = current_mask(), is_head_masked()
    _told.valid, _told.head_masks = valid, head_masks
    try:
        yield
    finally:
        _told.valid, _told.head_masks = before


def current_mask() -> Tensor | None:
    """Return the mask of the innermost `token_mask` of this thread."""
    return getattr(_told, "valid", None)


def is_head_masked() -> bool:
    """Return whether the model that is running leaves padding out where it pools patches."""
    return getattr(_told, "head_masks", False)


def check_mask(valid: Tensor, x: Tensor, n_prefix: int) -> Tensor:
    """Return the mask as bool on the device of the tokens x (B, N, C).

    Raises:
        ValueError: if it does not fit the tokens, or leaves a clip without any.
    """
    if valid.shape != x.shape[:2]:
        raise ValueError(
            f"the token mask has shape {tuple(valid.shape)}, but {tuple(x.shape[:2])} (clips, tokens) enter the blocks"
        )
    mask = valid.to(x.device, torch.bool)
    if not bool(mask[:, :n_prefix].all()):
        raise ValueError(f"the token mask hides one of the {n_prefix} prefix tokens; they must be True")
    empty = (~mask[:, n_prefix:].any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"clips {empty} of the batch have no token that is not padding; leave them out")
    return mask
