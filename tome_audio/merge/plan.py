"""A merge as data: which tokens stay, and which of them each other token joins."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MergePlan(NamedTuple):
    """Which of N tokens stay, and what the others join.

    `stays` (B, M) int64 holds the positions of the tokens that stay, one for each of the M slots; `leaves` (B, N - M)
    those of all others; `joins` (B, N - M) the slot each of them goes to. Slots keep the order of the tokens that stay,
    so prefix tokens keep their place and time stays in order.

    In a batch of clips of different lengths (`padded`) slots behind the tokens of a clip are empty: they hold a token
    of padding or one that has left. A token may then also leave to the slot it stays in, which changes nothing, and
    padding that no slot holds is dropped.
    """

    stays: Tensor
    leaves: Tensor
    joins: Tensor
    n_tokens: int
    padded: bool = False

    @property
    def n_out(self) -> int:
        """M, the number of tokens after merging."""
        return self.stays.shape[1]

    @property
    def assign(self) -> Tensor:
        """The slot each token goes to: (B, N) int64 with values 0 .. M - 1; 0 for padding that is dropped."""
        batch, n_out = self.stays.shape
        slots = torch.arange(n_out, device=self.stays.device).expand(batch, n_out)
        assign = self.stays.new_zeros(batch, self.n_tokens)
        return assign.scatter_(1, self.stays, slots).scatter_(1, self.leaves, self.joins)


def identity_plan(batch: int, n_tokens: int, device: torch.device | str | None = None) -> MergePlan:
    """Return the plan that merges nothing, for B = `batch` and N = `n_tokens`."""
    positions = torch.arange(n_tokens, device=device).expand(batch, n_tokens)
    return MergePlan(positions, positions[:, :0], positions[:, :0], n_tokens)


def plan_from_pairs(source: Tensor, target: Tensor, n_tokens: int) -> MergePlan:
    """Return the plan that merges token `source[b, i]` into token `target[b, i]` for r pairs.

    Args:
        source: positions (B, r) of the tokens that go away, distinct within a row.
        target: positions (B, r) of the tokens they join; none of them is a source.
        n_tokens: N, the number of tokens before merging.

    Returns:
        A plan with N - r slots; tokens that stay keep their order.
    """
    batch, r = source.shape
    staying = torch.ones(batch, n_tokens, dtype=torch.int64, device=source.device).scatter_(1, source, 0)
    rank = staying.cumsum(1)
    wanted = torch.arange(1, n_tokens - r + 1, device=source.device)
    # The m-th token that stays is where the rank first reaches m.
    stays = torch.searchsorted(rank, wanted.expand(batch, -1).contiguous())
    return MergePlan(stays, source, rank.gather(1, target) - 1, n_tokens)


def compose(first: MergePlan, second: MergePlan) -> MergePlan:
    """Return the plan that does `first` (B, N -> M) and then `second` (B, M -> K) in one step.

    Raises:
        ValueError: if `second` does not start from the tokens that `first` leaves.
    """
    if second.n_tokens != first.n_out:
        raise ValueError(
            f"cannot compose: the first plan leaves {first.n_out} tokens, the second starts from {second.n_tokens}; "
            "pass plans of consecutive layers in order"
        )
    return MergePlan(
        first.stays.gather(1, second.stays),
        torch.cat((first.leaves, first.stays.gather(1, second.leaves)), dim=1),
        torch.cat((second.assign.gather(1, first.joins), second.joins), dim=1),
        first.n_tokens,
        first.padded or second.padded,
    )


def source_matrix(plan: MergePlan) -> Tensor:
    """Return the 0/1 membership (B, n_out, N): entry [b, m, n] is 1 where token n went to slot m."""
    assign, slots = plan.assign, torch.arange(plan.n_out, device=plan.stays.device)
    return (assign[:, None, :] == slots[None, :, None]).to(torch.uint8)
