"""A merge as data: which output slot each input token goes to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MergePlan(NamedTuple):
    """Where each of N tokens goes: `assign` (B, N) int64 holds slots 0 .. n_out - 1, each used at least once.

    Slots keep the order of the tokens that stay, so prefix tokens keep their place and time stays in order.
    """

    assign: Tensor
    n_out: int


def identity_plan(batch: int, n_tokens: int, device: torch.device | str | None = None) -> MergePlan:
    """Return the plan that merges nothing, for B = `batch` and N = `n_tokens`."""
    return MergePlan(torch.arange(n_tokens, device=device).expand(batch, n_tokens), n_tokens)


def plan_from_pairs(source: Tensor, target: Tensor, n_tokens: int) -> MergePlan:
    """Return the plan that merges token `source[b, i]` into token `target[b, i]` for r pairs.

    Args:
        source: positions (B, r) of the tokens that go away, distinct within a row.
        target: positions (B, r) of the tokens they join; none of them is a source.
        n_tokens: N, the number of tokens before merging.

    Returns:
        A plan with N - r slots; tokens that stay keep their order.
    """
    positions = torch.arange(n_tokens, device=source.device).expand(source.shape[0], n_tokens)
    joins = positions.scatter(1, source, target)
    slot = (joins == positions).cumsum(1) - 1
    return MergePlan(slot.gather(1, joins), n_tokens - source.shape[1])


def compose(first: MergePlan, second: MergePlan) -> MergePlan:
    """Return the plan that does `first` (B, N -> M) and then `second` (B, M -> K) in one step.

    Raises:
        ValueError: if `second` does not start from the tokens that `first` leaves.
    """
    if second.assign.shape[1] != first.n_out:
        raise ValueError(
            f"cannot compose: the first plan leaves {first.n_out} tokens, the second starts from "
            f"{second.assign.shape[1]}; pass plans of consecutive layers in order"
        )
    return MergePlan(second.assign.gather(1, first.assign), second.n_out)


def source_matrix(plan: MergePlan) -> Tensor:
    """Return the 0/1 membership (B, n_out, N): entry [b, m, n] is 1 where token n went to slot m."""
    slots = torch.arange(plan.n_out, device=plan.assign.device)
    return (plan.assign[:, None, :] == slots[None, :, None]).to(torch.uint8)
