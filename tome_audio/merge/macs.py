"""Closed-form cost of an encoder whose tokens merge between attention and feed-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class BlockCost(NamedTuple):
    """What one block costs: multiply-accumulates per token and the width of its attention.

    `attention` counts the linear layers around attention, `feed_forward` those after the merge, both in MACs per
    token; `attention_width` is heads x head size, for the two N x N products. `key_value` is the part of `attention`
    that makes keys and values.
    """

    attention: int
    feed_forward: int
    attention_width: int
    key_value: int = 0


def encoder_macs(blocks: Sequence[BlockCost], tokens: Sequence[int], *, last_queries: int | None = None) -> int:
    """Return the multiply-accumulates of all blocks for one clip.

    A block with N tokens before and M tokens after its merge costs N a + 2 N^2 w + M f, where a, f and w are the
    block's `attention`, `feed_forward` and `attention_width`. Softmax, norms and the merge itself are not counted.
    Where only P tokens of the last block are read, it costs N k + P (a - k) + 2 P N w + P f with k its `key_value`.

    Args:
        blocks: the cost of each block.
        tokens: N entering each block and, last, N leaving (see `tokens_per_layer`).
        last_queries: P, how many tokens of the last block are computed; None means all.

    Raises:
        ValueError: if `tokens` does not hold one number more than `blocks`.
    """
    if len(tokens) != len(blocks) + 1:
        raise ValueError(f"{len(blocks)} blocks need {len(blocks) + 1} token counts, got {len(tokens)}")
    macs = [
        before * cost.attention + 2 * before * before * cost.attention_width + after * cost.feed_forward
        for cost, before, after in zip(blocks, tokens, tokens[1:], strict=False)
    ]
    if last_queries is not None and blocks:
        cost, n_tokens = blocks[-1], tokens[-2]
        per_query = cost.attention - cost.key_value + 2 * n_tokens * cost.attention_width + cost.feed_forward
        macs[-1] = n_tokens * cost.key_value + min(last_queries, n_tokens) * per_query
    return sum(macs)
