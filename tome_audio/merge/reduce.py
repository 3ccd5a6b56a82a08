"""Apply a plan: the size-weighted mean of each group, and its inverse."""

from __future__ import annotations

import torch
from torch import Tensor

from tome_audio.merge.plan import MergePlan


def merge_tokens(plan: MergePlan, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Replace each group of the plan by the size-weighted mean of its tokens (arXiv 2210.09461, section 3).

    The mean is the token that stays plus, for each that leaves, its share of their difference: only the tokens of a
    merge are computed with, all others are copied. Differences are added up in float32 or better whatever the dtype of
    `x`. In a group whose sizes are all 0 (padding) the token that stays is unchanged.

    Args:
        plan: `assign` (B, N) with n_out = M slots.
        x: tokens (B, N, C).
        size: how many input tokens each token stands for, (B, N) float; None means 1 each.

    Returns:
        The merged tokens (B, M, C) in the dtype of `x`, and their sizes (B, M) in float32 or better.

    Raises:
        ValueError: if `x` or `size` does not have the plan's batch and number of tokens.
    """
    _check(plan, x, plan.assign.shape[1])
    wide = torch.promote_types(x.dtype, torch.float32)
    if size is None:
        size = torch.ones(plan.assign.shape, dtype=wide, device=x.device)
    elif size.shape != plan.assign.shape:
        raise ValueError(f"size must be {tuple(plan.assign.shape)} like the plan, got {tuple(size.shape)}")
    size = size.to(wide)
    slot, leaving = plan.assign.gather(1, plan.leaves), size.gather(1, plan.leaves)
    total = size.gather(1, plan.stays).scatter_add_(1, slot, leaving)
    share = leaving / total.gather(1, slot).clamp(min=torch.finfo(wide).tiny)
    merged = take_tokens(x, plan.stays)
    difference = (take_tokens(x, plan.leaves).to(wide) - take_tokens(merged, slot)) * share[..., None]
    return _add_tokens(merged, slot, difference), total


def take_tokens(x: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens of x (B, N, C) at `positions` (B, K): (B, K, C).

    On a CPU many times faster than `gather`, which reads an index per channel.
    """
    return x.flatten(0, 1).index_select(0, _rows(positions, x.shape[1])).unflatten(0, positions.shape)


def unmerge_tokens(plan: MergePlan, x: Tensor) -> Tensor:
    """Give every original token the value of its group: (B, M, C) -> (B, N, C).

    Raises:
        ValueError: if `x` does not have the plan's batch and number of slots.
    """
    _check(plan, x, plan.n_out)
    return take_tokens(x, plan.assign)


def size_bias(size: Tensor, dtype: torch.dtype) -> Tensor:
    """Return log(size) of the keys as an additive attention mask (B, 1, 1, N) (arXiv 2210.09461, equation 1)."""
    return size.log().to(dtype)[:, None, None, :]


def _add_tokens(x: Tensor, slot: Tensor, update: Tensor) -> Tensor:
    """Add the rows of `update` (B, r, C) to x (B, M, C) at `slot` (B, r), where slots may repeat; x may be reused."""
    if x.dtype != update.dtype:  # in half precision, updates to one slot are added up before they are rounded
        order = torch.arange(slot.shape[1], device=slot.device).expand_as(slot)
        first = order.new_zeros(x.shape[:2]).scatter_reduce_(1, slot, order, "amin", include_self=False).gather(1, slot)
        total = torch.zeros_like(update).flatten(0, 1).index_add_(0, _rows(first, slot.shape[1]), update.flatten(0, 1))
        update = total.view_as(update).to(x.dtype)
    return x.flatten(0, 1).index_add_(0, _rows(slot, x.shape[1]), update.flatten(0, 1)).view_as(x)


def _rows(positions: Tensor, n_tokens: int) -> Tensor:
    """Return positions (B, K) within clips as rows (B * K) of all B * N tokens."""
    first = torch.arange(positions.shape[0], device=positions.device) * n_tokens
    return (positions + first[:, None]).flatten()


def _check(plan: MergePlan, x: Tensor, n_tokens: int) -> None:
    if x.ndim != 3 or x.shape[0] != plan.assign.shape[0] or x.shape[1] != n_tokens:
        raise ValueError(
            f"the plan expects tokens of shape ({plan.assign.shape[0]}, {n_tokens}, C), got {tuple(x.shape)}"
        )
