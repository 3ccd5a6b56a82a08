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
        plan: N tokens into M slots.
        x: tokens (B, N, C).
        size: how many input tokens each token stands for, (B, N) float; None means 1 each.

    Returns:
        The merged tokens (B, M, C) in the dtype of `x`, and their sizes (B, M) in float32 or better.

    Raises:
        ValueError: if `x` or `size` does not have the plan's batch and number of tokens.
    """
    _check(plan, x, plan.n_tokens)
    if size is None:
        size = torch.ones(x.shape[:2], device=x.device)
    elif size.shape != x.shape[:2]:
        raise ValueError(f"size must be {tuple(x.shape[:2])} like the plan, got {tuple(size.shape)}")
    wide = torch.promote_types(x.dtype, torch.float32)
    tokens, sizes = x.flatten(0, 1), size.to(wide).flatten()
    stays, leaves = _rows(plan.stays, plan.n_tokens), _rows(plan.leaves, plan.n_tokens)
    joins = _rows(plan.joins, plan.n_out)

    leaving = sizes.index_select(0, leaves)
    if plan.padded:  # a slot that holds a token which has left is empty
        sizes = sizes.index_fill(0, leaves, 0.0)
    total = sizes.index_select(0, stays).index_add_(0, joins, leaving)
    share = leaving / total.index_select(0, joins).clamp_(min=torch.finfo(wide).tiny)

    merged = tokens.index_select(0, stays)
    difference = tokens.index_select(0, leaves).to(wide) - merged.index_select(0, joins)
    merged = _add_rows(merged, joins, difference * share[:, None])
    return merged.view(x.shape[0], plan.n_out, x.shape[2]), total.view(x.shape[0], plan.n_out)


def take_tokens(x: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens of x (B, N, C) at `positions` (B, K): (B, K, C).

    On a CPU many times faster than `gather`, which reads an index per channel.
    """
    taken = x.flatten(0, 1).index_select(0, _rows(positions, x.shape[1]))
    return taken.view(*positions.shape, x.shape[2])


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


def _add_rows(x: Tensor, rows: Tensor, update: Tensor) -> Tensor:
    """Add `update` (R, C) to x (M, C) at `rows` (R), which may repeat, in place."""
    if x.dtype != update.dtype:  # in half precision, updates of one row are added up before they are rounded
        order = torch.arange(len(rows), device=rows.device)
        first = (
            order.new_zeros(len(x)).scatter_reduce_(0, rows, order, "amin", include_self=False).index_select(0, rows)
        )
        update = torch.zeros_like(update).index_add_(0, first, update).to(x.dtype)
    return x.index_add_(0, rows, update)


def _rows(positions: Tensor, n_tokens: int) -> Tensor:
    """Return positions (B, K) within clips as rows (B * K) of all B * N tokens."""
    if positions.shape[0] > 1:
        positions = positions + torch.arange(positions.shape[0], device=positions.device)[:, None] * n_tokens
    return positions.flatten()


def _check(plan: MergePlan, x: Tensor, n_tokens: int) -> None:
    batch = plan.stays.shape[0]
    if x.ndim != 3 or x.shape[0] != batch or x.shape[1] != n_tokens:
        raise ValueError(f"the plan expects tokens of shape ({batch}, {n_tokens}, C), got {tuple(x.shape)}")
