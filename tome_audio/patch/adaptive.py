"""The state of one forward pass whose amounts depend on the clips: what is similar enough merges."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tome_audio.merge import (
    MATCHINGS,
    Amounts,
    MergePlan,
    SimilarityThreshold,
    common_amount,
    count_similar,
    match_each,
    merge_tokens,
)
from tome_audio.patch.state import MergeState

_UNCOMPILED = "a SimilarityThreshold reads the clips: give r as numbers to compile in one graph"


class ThresholdState(MergeState):
    """Counts similar pairs before each matching; otherwise a `MergeState`.

    Its amounts only say where something may merge: 1 where there is a threshold, 0 elsewhere.
    """

    @property
    def rate(self) -> SimilarityThreshold:
        """R of the model."""
        rate = self.config.r
        assert isinstance(rate, SimilarityThreshold)
        return rate

    def _thresholds(self) -> tuple[float | None, ...]:
        whole = self.rate.of_blocks(self.blocks.depth)
        return tuple(whole[layer] for layer in self.blocks.layers)

    def is_plain(self, index: int, x: Tensor, *args: Any, **kwargs: Any) -> bool:
        """Return whether block `index` has nothing to merge and no merged tokens before it."""
        return super().is_plain(index, x, *args, **kwargs)

    def run(self, index: int, block: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run one block with merging, as it is while the rest of the model is compiled."""
        return super().run(index, block, x, *args, **kwargs)

    def _resolve(self, n_tokens: int) -> Amounts:
        blocks = [int(threshold is not None) for threshold in self._thresholds()]
        if self.last_queries is not None:
            blocks[-1] = 0  # nobody would see what the last block merges
        return Amounts((1,) * len(self.rate.before), tuple(blocks))

    def _merge_before(
        self, x: Tensor, size: Tensor | None, total: MergePlan | None
    ) -> tuple[Tensor, Tensor | None, MergePlan | None]:
        counts = self.counts[0]
        for threshold in self.rate.before:
            plan, counts = self._plan("adjacent", x, threshold, counts)
            if plan is not None:
                x, size = merge_tokens(plan, x, size)
                total = self._add(total, plan)
        self.counts[0] = counts
        return x, size, total

    def _match(self, metric: Tensor, index: int, size: Tensor | None) -> Iterable[MergePlan]:
        threshold = self._thresholds()[index]
        assert threshold is not None  # it would have no amount
        plan, self.counts[index + 1] = self._plan(self.config.matching, metric, threshold, self.counts[index])
        return [] if plan is None else [plan]

    def _plan(
        self, matching: str, metric: Tensor, threshold: float, counts: list[int]
    ) -> tuple[MergePlan | None, list[int]]:
        """Return the plan of one matching, None where nothing merges, and how many tokens of each clip stay."""
        ragged = counts if self.each is not None else None
        found = count_similar(matching, metric, threshold, n_prefix=self.n_prefix, counts=ragged)
        if ragged is not None:
            if not any(found):
                return None, counts
            plan = match_each(matching, metric, found, ragged, n_prefix=self.n_prefix)
            return plan, [count - r for count, r in zip(ragged, found, strict=True)]
        r = common_amount(found, self.rate.quantile)
        return (MATCHINGS[matching](metric, r, n_prefix=self.n_prefix) if r else None), counts


@cache
def leave_uncompiled() -> None:
    """Have `torch.compile` run the blocks of models with a threshold as they are.

    Called where a threshold is set rather than when this file is imported: it loads the compiler, which takes a second.
    """
    for name in ("is_plain", "run"):
        method = getattr(ThresholdState, name)
        setattr(ThresholdState, name, torch.compiler.disable(method, reason=_UNCOMPILED))
