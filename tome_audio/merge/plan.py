"""A merge as data: which output slot each input token goes to."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MergePlan(NamedTuple):
    """Where each of N tokens goes: `assign` (B, N) int64 holds slots 0 .. n_out - 1, each used at least once.

    Slots keep the order of the tokens that stay, so prefix tokens keep their place and time stays in order. `stays`
    (B, n_out) is the position of one token of each slot, `leaves` (B, N - n_out) those of all others: with them a merge
    copies the tokens that stay in one go and touches the rest alone.
    """

    assign: Tensor
    n_out: int
    stays: Tensor
    leaves: Tensor


def identity_plan(batch: int, n_tokens: int, device: torch.device | str | None = None) -> MergePlan:
    """Return the plan that merges nothing, for B = `batch` and N = `n_tokens`."""
    positions = torch.arange(n_tokens, device=device).expand(batch, n_tokens)
    return MergePlan(positions, n_tokens, positions, positions[:, :0])


def plan_from_pairs(source: Tensor, target: Tensor, n_tokens: int) -> MergePlan:
    """Return the plan that merges token `source[b, i]` into token `target[b, i]` for r pairs.

    Args:
        source: positions (B, r) of the tokens that go away, distinct within a row.
        target: positions (B, r) of the tokens they join; none of them is a source.
        n_tokens: N, the number of tokens before merging.

    Returns:
        A plan with N - r slots; tokens that stay keep their order.
    """
    batch, n_out = source.shape[0], n_tokens - source.shape[1]
    kept = torch.ones(batch, n_tokens, dtype=torch.int64, device=source.device).scatter_(1, source, 0)
    rank = kept.cumsum(1)
    # The m-th token that stays is where the rank first reaches m.
    stays = torch.searchsorted(rank, torch.arange(1, n_out + 1, device=source.device).repeat(batch, 1))
    slot = rank - 1
    return MergePlan(slot.scatter(1, source, slot.gather(1, target)), n_out, stays, source)


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
    return MergePlan(
        second.assign.gather(1, first.assign),
        second.n_out,
        first.stays.gather(1, second.stays),
        torch.cat((first.leaves, first.stays.gather(1, second.leaves)), dim=1),
    )


def source_matrix(plan: MergePlan) -> Tensor:
    """Return the 0/1 membership (B, n_out, N): entry [b, m, n] is 1 where token n went to slot m."""
    slots = torch.arange(plan.n_out, device=plan.assign.device)
    return (plan.assign[:, None, :] == slots[None, :, None]).to(torch.uint8)
