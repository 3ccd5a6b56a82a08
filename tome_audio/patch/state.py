"""The state of one forward pass through a patched block list."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tome_audio.merge import (
    MATCHINGS,
    Amounts,
    MergePlan,
    Schedule,
    before_matching,
    compose,
    match_each,
    match_each_in_rounds,
    match_repeatedly,
    merge_tokens,
    pack_plan,
    size_bias,
    take_tokens,
    takes_size,
    unmerge_tokens,
)
from tome_audio.patch.padding import check_mask, current_mask, is_head_masked
from tome_audio.patch.recording import record
from tome_audio.patch.trace import Trace

if TYPE_CHECKING:
    from tome_audio.patch.blocks import MergedBlocks


class MergeClampWarning(UserWarning):
    """The schedule asks for more merges than there are tokens."""


class MergeState:
    """Sizes and plans of one call. Slot i belongs to the tokens entering block i.

    Block i reads slot i and writes slot i + 1, nothing else, so running a block a second time (gradient
    checkpointing) finds what the first time found. Nothing has to be reset between calls. How much merges where is
    settled when the first block sees how many tokens there are.
    """

    amounts: Amounts
    each: list[Amounts] | None = None
    """What merges in each clip, where clips of the batch differ in length."""

    def __init__(self, blocks: MergedBlocks, last_queries: int | None, trace: Trace | None) -> None:
        self.blocks = blocks
        self.adapter = blocks.adapter
        self.config = blocks.config
        self.n_prefix = blocks.n_prefix
        self.last = len(blocks.layers) - 1
        self.last_queries = last_queries
        self.trace = trace
        self.valid = current_mask()
        self.counts: list[list[int]] = [[]] * (self.last + 2)
        self.sizes: list[Tensor | None] = [None] * (self.last + 2)
        self.totals: list[MergePlan | None] = [None] * (self.last + 2)
        self.keeps_totals = blocks.restore or self.config.unmerge or trace is not None

    def is_plain(self, index: int, x: Tensor, *args: Any, **kwargs: Any) -> bool:
        """Return whether block `index` has nothing to merge and no merged tokens before it."""
        if index == 0:
            self._start(x)
        untouched = self.sizes[index] is None and self.totals[index] is None
        plain = self.amounts.blocks[index] == 0 and untouched and not self._is_cut(index, *args, **kwargs)
        plain = plain and not (index == 0 and (self.amounts.before or self.valid is not None))
        if plain and self.trace is not None:
            self.trace.record(index, x.shape[1], None, None)
        return plain

    def run(self, index: int, block: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run one block with merging: (B, N, C) -> (B, M, C), or (B, N0, C) where tokens are given back.

        The last block gives (B, P, C) where only the P prefix tokens are read.
        """
        total, size = self.totals[index], self.sizes[index]
        if index == 0:
            x, size, total = self._merge_before(*self._drop_padding(x))
            if self.trace is not None:
                self.trace.tokens[0] = x.shape[1]
        elif self.config.unmerge and total is not None:
            x = take_tokens(x, total.stays)
        if self._is_cut(index, *args, **kwargs):
            return self._run_prefix(index, block, x, size, total)
        r = self.amounts.blocks[index]
        wanted = self._of_block("metric", index) if r > 0 else "hidden"
        x, metric = self._attend(block, wanted, x, self._bias(size, x), *args, **kwargs)
        self.counts[index + 1] = self.counts[index]
        if r > 0:
            for plan in self._match(metric, index, size):
                x, size = merge_tokens(plan, x, size)
                total = self._add(total, plan)
        self.sizes[index + 1], self.totals[index + 1] = size, total
        if self.trace is not None:
            self.trace.record(index, x.shape[1], total, size)
        x = self.adapter.feed_forward(block, x)
        if total is not None and (self.config.unmerge or (self.blocks.restore and index == self.last)):
            x = unmerge_tokens(total, x)
        return x

    def _drop_padding(self, x: Tensor) -> tuple[Tensor, Tensor | None, MergePlan | None]:
        """Move padding behind the tokens of each clip and drop what no clip needs; what is left of it has size 0."""
        if self.valid is None:
            return x, self.sizes[0], None
        plan = pack_plan(self.valid)
        x, size = merge_tokens(plan, x, self.valid.to(torch.float32))
        return x, size if self.each is not None else None, self._add(None, plan)

    def _merge_before(
        self, x: Tensor, size: Tensor | None, total: MergePlan | None
    ) -> tuple[Tensor, Tensor | None, MergePlan | None]:
        """Merge in rounds before the first block, by the similarity of the tokens themselves."""
        matching, counts = before_matching(self.config.r, self.blocks.grid_rows), self.counts[0]
        for step, r in enumerate(self.amounts.before):
            if self.each is None:
                plan = MATCHINGS[matching](x, r, n_prefix=self.n_prefix)
            else:
                amounts = [amount.before[step] if step < len(amount.before) else 0 for amount in self.each]
                plan = match_each(matching, x, amounts, counts, n_prefix=self.n_prefix)
                counts = [count - amount for count, amount in zip(counts, amounts, strict=True)]
            x, size = merge_tokens(plan, x, size)
            total = self._add(total, plan)
        self.counts[0] = counts
        return x, size, total

    def _match(self, metric: Tensor, index: int, size: Tensor | None) -> Iterable[MergePlan]:
        """Return the plans of block `index`, to be done in order, and count what stays of each clip."""
        seed, matching = self.config.seed + index, self._of_block("matching", index)
        if self.each is None or size is None:
            match = partial(MATCHINGS[matching], n_prefix=self.n_prefix)
            if matching == "random":
                match = partial(match, seed=seed)
            r, sized, rounds = self.amounts.blocks[index], takes_size(matching), self.config.rounds
            return [match_repeatedly(match, metric, r, size, n_prefix=self.n_prefix, sized=sized, rounds=rounds)]
        counts, amounts = self.counts[index], [amount.blocks[index] for amount in self.each]
        self.counts[index + 1] = [count - amount for count, amount in zip(counts, amounts, strict=True)]
        return match_each_in_rounds(
            matching, metric, amounts, counts, size, n_prefix=self.n_prefix, seed=seed, rounds=self.config.rounds
        )

    def _of_block(self, option: str, index: int) -> str:
        """Return the matching or metric of one block: what the schedule says of it, else the option itself."""
        rate, layer = self.config.r, self.blocks.layers[index]
        own = (rate.matchings if option == "matching" else rate.metrics) if isinstance(rate, Schedule) else ()
        return (own[layer] if layer < len(own) else "") or getattr(self.config, option)

    def _add(self, total: MergePlan | None, plan: MergePlan) -> MergePlan | None:
        """Return the plan from the input tokens on, where somebody needs it."""
        if not self.keeps_totals:
            return None
        return plan if total is None else compose(total, plan)

    def _is_cut(self, index: int, *args: Any, **kwargs: Any) -> bool:
        return self.last_queries is not None and index == self.last and not self.adapter.is_masked(*args, **kwargs)

    def _run_prefix(self, index: int, block: Any, x: Tensor, size: Tensor | None, total: MergePlan | None) -> Tensor:
        """Run the last block for the tokens that are read."""
        assert self.last_queries is not None
        if self.trace is not None:
            self.trace.record(index, x.shape[1], total, size)
        attended = self.adapter.attend_prefix(block, x, self._bias(size, x), self.last_queries)
        return self.adapter.feed_forward(block, attended)

    def _bias(self, size: Tensor | None, x: Tensor) -> Tensor | None:
        if size is None or not (self.config.prop_attn or self.each is not None):
            return None
        return size_bias(size if self.config.prop_attn else (size > 0).to(size.dtype), x.dtype)

    def _attend(
        self, block: Any, metric: str, x: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens after the attention residual and the metric that says how similar they are."""
        attend = self.adapter.attend
        if metric == "hidden":
            x = attend(block, x, bias, *args, **kwargs)
            return x, x
        x, projected = record(self.adapter.projection(block, metric), attend, block, x, bias, *args, **kwargs)
        return x, self.adapter.read_metric(block, metric, projected)

    def _count(self, x: Tensor, valid: Tensor) -> int:
        """Settle what merges in each clip, and return how many tokens the longest one has."""
        if self.blocks.restore and not is_head_masked():
            raise ValueError("the head of this model pools patches, padding too: call it without a token mask")
        self.valid = check_mask(valid, x, self.n_prefix)
        counts = self.valid.sum(1).tolist()
        if min(counts) < max(counts):
            cut = {count: self._resolve(count) for count in set(counts)}
            self.each, self.counts[0] = [cut[count] for count in counts], counts
            self.amounts = _most(self.each)
        return int(max(counts))

    def _resolve(self, n_tokens: int) -> Amounts:
        """Return what merges where when N = `n_tokens` enter."""
        return self.blocks.resolve(n_tokens, self.last_queries)

    def _start(self, x: Tensor) -> None:
        n_tokens = x.shape[1] if self.valid is None else self._count(x, self.valid)
        if self.each is None:
            self.amounts = self._resolve(n_tokens)
        if self.trace is not None:
            self.trace.start(x.shape[0], x.shape[1], n_tokens, self.n_prefix)
        if torch.compiler.is_compiling():
            return  # a warning would break the graph; `describe` reports clamping for any length
        wanted = self.blocks.wanted(self.last_queries)
        done = self.amounts.blocks
        if wanted is not None and done != wanted:
            first = next(layer for layer, (r, asked) in enumerate(zip(done, wanted, strict=True)) if r < asked)
            warnings.warn(
                f"r is larger than {n_tokens} tokens allow: from block {first} on it is clamped to "
                f"{list(done[first:])} instead of {list(wanted[first:])}",
                MergeClampWarning,
                stacklevel=2,
            )


def _most(each: list[Amounts]) -> Amounts:
    """Return the most that any clip merges in each place."""
    rounds = max(len(amounts.before) for amounts in each)
    before = [(*amounts.before, *[0] * (rounds - len(amounts.before))) for amounts in each]
    return Amounts(
        tuple(max(column) for column in zip(*before, strict=True)),
        tuple(max(column) for column in zip(*(amounts.blocks for amounts in each), strict=True)),
    )
