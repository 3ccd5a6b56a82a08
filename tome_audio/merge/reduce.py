"""Apply a plan: the size-weighted mean of each group, and its inverse."""

from __future__ import annotations

import torch
from torch import Tensor

from tome_audio.merge.plan import MergePlan


def merge_tokens(plan: MergePlan, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Replace each group of the plan by the size-weighted mean of its tokens (arXiv 2210.09461, section 3).

    Sums are taken in float32 or better whatever the dtype of `x`. A group whose sizes are all 0 (padding) becomes 0.

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
        size, weighted = torch.ones(plan.assign.shape, dtype=wide, device=x.device), x.to(wide)
    elif size.shape == plan.assign.shape:
        weighted = x.to(wide) * size[..., None]
    else:
        raise ValueError(f"size must be {tuple(plan.assign.shape)} like the plan, got {tuple(size.shape)}")
    total = _sum_groups(plan, size.to(wide)[..., None])
    # In place: on a CPU a pass over the tokens costs as much as the matching.
    mean = _sum_groups(plan, weighted).div_(total.clamp(min=torch.finfo(wide).tiny))
    return mean.to(x.dtype), total.squeeze(-1)


def unmerge_tokens(plan: MergePlan, x: Tensor) -> Tensor:
    """Give every original token the value of its group: (B, M, C) -> (B, N, C).

    Raises:
        ValueError: if `x` does not have the plan's batch and number of slots.
    """
    _check(plan, x, plan.n_out)
    return x.gather(1, plan.assign[..., None].expand(-1, -1, x.shape[-1]))


def size_bias(size: Tensor, dtype: torch.dtype) -> Tensor:
    """Return log(size) of the keys as an additive attention mask (B, 1, 1, N) (arXiv 2210.09461, equation 1)."""
    return size.log().to(dtype)[:, None, None, :]


def _sum_groups(plan: MergePlan, x: Tensor) -> Tensor:
    """Sum the tokens (B, N, C) of each slot: (B, M, C)."""
    sums = torch.zeros_like(x[:, : plan.n_out])  # like a part of x, so that it is batched where vmap has batched x
    return sums.scatter_add_(1, plan.assign[..., None].expand_as(x), x)


def _check(plan: MergePlan, x: Tensor, n_tokens: int) -> None:
    if x.ndim != 3 or x.shape[0] != plan.assign.shape[0] or x.shape[1] != n_tokens:
        raise ValueError(
            f"the plan expects tokens of shape ({plan.assign.shape[0]}, {n_tokens}, C), got {tuple(x.shape)}"
        )
