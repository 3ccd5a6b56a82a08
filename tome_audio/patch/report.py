"""What a patched model costs for a given number of tokens, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tome_audio.merge import clamp_schedule, encoder_macs, tokens_per_layer
from tome_audio.patch.model import merged_blocks


@dataclass(frozen=True)
class MergeReport:
    """Tokens and multiply-accumulates per block, for one clip.

    `wanted` is the schedule as set, `merged` what the number of tokens allows; `tokens` holds N entering each block
    and, last, N leaving.
    """

    wanted: tuple[int, ...]
    merged: tuple[int, ...]
    tokens: tuple[int, ...]
    macs: tuple[int, ...]
    macs_unmerged: tuple[int, ...]

    @property
    def is_clamped(self) -> bool:
        """Whether the schedule asks for more than the tokens allow."""
        return self.wanted != self.merged

    @property
    def macs_cut(self) -> float:
        """How many times fewer MACs all blocks together take than without merging."""
        return sum(self.macs_unmerged) / sum(self.macs)


def describe(model: nn.Module, n_tokens: int) -> MergeReport:
    """Report tokens and MACs per block of a patched model when N = `n_tokens` tokens enter it, prefix included.

    Patch embedding and head are not part of the blocks and not counted. Of several encoders the first is reported.

    Raises:
        NotPatchedError: if the model is not patched.
    """
    blocks = merged_blocks(model)[0]
    wanted = blocks.schedule
    tokens = tokens_per_layer(wanted, n_tokens, blocks.n_prefix)
    costs = [blocks.adapter.cost(block) for block in blocks._modules.values()]
    return MergeReport(
        wanted=wanted,
        merged=clamp_schedule(wanted, n_tokens, blocks.n_prefix),
        tokens=tokens,
        macs=tuple(encoder_macs([c], [n, m]) for c, n, m in zip(costs, tokens, tokens[1:], strict=False)),
        macs_unmerged=tuple(encoder_macs([c], [n_tokens, n_tokens]) for c in costs),
    )
