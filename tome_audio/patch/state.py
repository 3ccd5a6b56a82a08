"""The state of one forward pass through a patched block list."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from tome_audio.merge import (
    MATCHINGS,
    MergePlan,
    clamp_r,
    clamp_schedule,
    compose,
    merge_tokens,
    size_bias,
    take_tokens,
    unmerge_tokens,
)
from tome_audio.patch.config import MergeConfig
from tome_audio.patch.recording import record
from tome_audio.patch.registry import Adapter
from tome_audio.patch.trace import Trace


class MergeClampWarning(UserWarning):
    """The schedule asks for more merges than there are tokens."""


class MergeState:
    """Sizes and plans of one call. Slot i belongs to the tokens entering block i.

    Block i reads slot i and writes slot i + 1, nothing else, so running a block a second time (gradient
    checkpointing) finds what the first time found. Nothing has to be reset between calls.
    """

    def __init__(
        self,
        adapter: Adapter,
        config: MergeConfig,
        schedule: tuple[int, ...],
        n_prefix: int,
        restore: bool,
        last_queries: int | None,
        trace: Trace | None,
    ) -> None:
        depth = len(schedule)
        if last_queries is not None:  # what the last block merges, nobody would see
            schedule = (*schedule[:-1], 0)
        self.last_queries = last_queries
        self.adapter = adapter
        self.config = config
        self.schedule = schedule
        self.n_prefix = n_prefix
        self.restore_last = restore
        self.trace = trace
        self.sizes: list[Tensor | None] = [None] * (depth + 1)
        self.totals: list[MergePlan | None] = [None] * (depth + 1)
        self.keeps_totals = restore or config.unmerge or trace is not None

    def is_plain(self, index: int, x: Tensor) -> bool:
        """Return whether block `index` has nothing to merge and no merged tokens before it."""
        if index == 0:
            self._start(x)
        plain = self.schedule[index] == 0 and self.sizes[index] is None and not self._is_cut(index)
        if plain and self.trace is not None:
            self.trace.record(index, x.shape[1], None, None)
        return plain

    def run(self, index: int, block: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run one block with merging: (B, N, C) -> (B, M, C), or (B, N0, C) where tokens are given back.

        The last block gives (B, P, C) where only the P prefix tokens are read.
        """
        if self._is_cut(index):
            return self._run_prefix(index, block, x)
        total, size = self.totals[index], self.sizes[index]
        if self.config.unmerge and total is not None:
            x = take_tokens(x, total.stays)
        n_tokens = x.shape[1]
        r = clamp_r(self.schedule[index], n_tokens, self.n_prefix)
        bias = self._bias(size, x)
        x, metric = self._attend(block, r, x, bias, *args, **kwargs)
        if r > 0:
            plan = self._match(metric, r, index)
            x, size = merge_tokens(plan, x, size)
            if self.keeps_totals:
                total = plan if total is None else compose(total, plan)
        self.sizes[index + 1], self.totals[index + 1] = size, total
        if self.trace is not None:
            self.trace.record(index, x.shape[1], total, size)
        x = self.adapter.feed_forward(block, x)
        if total is not None and (self.config.unmerge or (self.restore_last and index == len(self.schedule) - 1)):
            x = unmerge_tokens(total, x)
        return x

    def _is_cut(self, index: int) -> bool:
        return self.last_queries is not None and index == len(self.schedule) - 1

    def _run_prefix(self, index: int, block: Any, x: Tensor) -> Tensor:
        """Run the last block for the tokens that are read."""
        assert self.last_queries is not None
        total, size = self.totals[index], self.sizes[index]
        if self.trace is not None:
            self.trace.record(index, x.shape[1], total, size)
        attended = self.adapter.attend_prefix(block, x, self._bias(size, x), self.last_queries)
        return self.adapter.feed_forward(block, attended)

    def _bias(self, size: Tensor | None, x: Tensor) -> Tensor | None:
        return size_bias(size, x.dtype) if size is not None and self.config.prop_attn else None

    def _attend(
        self, block: Any, r: int, x: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens after the attention residual and the metric that says how similar they are."""
        attend, metric = self.adapter.attend, self.config.metric
        if metric == "hidden" or r == 0:
            x = attend(block, x, bias, *args, **kwargs)
            return x, x
        x, projected = record(self.adapter.projection(block, metric), attend, block, x, bias, *args, **kwargs)
        return x, self.adapter.read_metric(block, metric, projected)

    def _match(self, metric: Tensor, r: int, index: int) -> MergePlan:
        match = MATCHINGS[self.config.matching]
        if self.config.matching == "random":
            return match(metric, r, n_prefix=self.n_prefix, seed=self.config.seed + index)
        return match(metric, r, n_prefix=self.n_prefix)

    def _start(self, x: Tensor) -> None:
        if self.trace is not None:
            self.trace.start(x.shape[0], x.shape[1], self.n_prefix)
        if torch.compiler.is_compiling():
            return  # a warning would break the graph; `describe` reports clamping for any length
        done = clamp_schedule(self.schedule, x.shape[1], self.n_prefix)
        if done != self.schedule:
            first = next(layer for layer, (r, wanted) in enumerate(zip(done, self.schedule, strict=True)) if r < wanted)
            warnings.warn(
                f"r is larger than {x.shape[1]} tokens allow: from block {first} on it is clamped to "
                f"{list(done[first:])} instead of {list(self.schedule[first:])}",
                MergeClampWarning,
                stacklevel=2,
            )
