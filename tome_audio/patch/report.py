"""What a patched model costs for a given number of tokens, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tome_audio.merge import AUTO, before_matching, encoder_macs, reachable_cut
from tome_audio.patch.model import merged_blocks


@dataclass(frozen=True)
class MergeReport:
    """Tokens and multiply-accumulates per block, for one clip.

    `before` holds what rounds before the first block merge, by `before_matching`. `wanted` is what r asks of each
    block, `merged` what the number of tokens allows (a `ComputeTarget` asks for what it gets); `tokens` holds N
    entering each block and, last, N leaving. `prefix_only` says that the last block computes the prefix tokens alone
    (and merges nothing).
    """

    wanted: tuple[int, ...]
    merged: tuple[int, ...]
    tokens: tuple[int, ...]
    macs: tuple[int, ...]
    macs_unmerged: tuple[int, ...]
    prefix_only: bool = False
    before: tuple[int, ...] = ()
    before_matching: str = "adjacent"

    @property
    def is_clamped(self) -> bool:
        """Whether the schedule asks for more than the tokens allow."""
        return self.wanted != self.merged

    @property
    def macs_cut(self) -> float:
        """How many times fewer MACs all blocks together take than without merging."""
        return sum(self.macs_unmerged) / sum(self.macs)


def describe(model: nn.Module, n_tokens: int) -> MergeReport:
    """Report what `model(x)` takes when N = `n_tokens` tokens enter the blocks, prefix included.

    Patch embedding and head are not part of the blocks and not counted. Of several encoders the first is reported.

    Raises:
        NotPatchedError: if the model is not patched.
        ValueError: if no token enters.
    """
    blocks = merged_blocks(model)[0]
    _refuse_nothing(n_tokens)
    queries = blocks.queries_of_last(reading=blocks.reads_prefix)
    amounts = blocks.resolve(n_tokens, queries)
    tokens, costs = amounts.tokens(n_tokens), [blocks.costs[layer] for layer in blocks.layers]
    return MergeReport(
        wanted=blocks.wanted(queries) or amounts.blocks,
        merged=amounts.blocks,
        tokens=tokens,
        macs=tuple(
            encoder_macs([cost], pair, last_queries=queries if layer == len(costs) - 1 else None)
            for layer, (cost, pair) in enumerate(zip(costs, pairwise(tokens), strict=True))
        ),
        macs_unmerged=tuple(encoder_macs([c], [n_tokens, n_tokens]) for c in costs),
        prefix_only=queries is not None,
        before=amounts.before,
        before_matching=before_matching(blocks.config.r, blocks.grid_rows),
    )


def reachable_target(model: nn.Module, n_tokens: int, shape: str = AUTO) -> float:
    """Return the largest `ComputeTarget` that `model(x)` reaches when N = `n_tokens` tokens enter, whatever r is now.

    Raises:
        NotPatchedError: if the model is not patched.
        ValueError: if no token enters.
    """
    blocks = merged_blocks(model)[0]
    _refuse_nothing(n_tokens)
    queries = blocks.queries_of_last(reading=blocks.reads_prefix, merging=True)
    return reachable_cut(
        n_tokens, blocks.n_prefix, blocks.costs, shape=shape, last_queries=queries, rows=blocks.grid_rows
    )


def _refuse_nothing(n_tokens: int) -> None:
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be at least 1, the tokens that enter the blocks, got {n_tokens}")
