"""The methods by the name that a benchmark's record gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from rivals.copies import own_copy
from rivals.dropping import random_drop, topk_class
from rivals.unfused import unfuse_
from tome_audio.merge import Rate
from tome_audio.patch import apply_patch


def unpatched(model: nn.Module, r: Rate = 0) -> nn.Module:
    """Return a copy as it is, with its fused attention; `r` is not used."""
    return own_copy(model)


def merged(model: nn.Module, r: Rate) -> nn.Module:
    """Return a copy that merges as this package does by default."""
    return apply_patch(own_copy(model), r)


def merged_unfused(model: nn.Module, r: Rate) -> nn.Module:
    """Return a copy that merges as published in 2023 (Bolya et al., ICLR 2023, arXiv 2210.09461).

    Attention weights are computed in the open, with log(size) added, and every token goes through the last block.
    """
    model = own_copy(model)
    unfuse_(model)
    return apply_patch(model, r, prefix_only=False)


def merged_random(model: nn.Module, r: Rate) -> nn.Module:
    """Return a copy that merges random pairs: the control for what similarity is worth."""
    return apply_patch(own_copy(model), r, matching="random")


METHODS: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "unpatched": unpatched,
    "merged": merged,
    "merged-unfused": merged_unfused,
    "merged-random": merged_random,
    "topk-class": topk_class,
    "random-drop": random_drop,
}
