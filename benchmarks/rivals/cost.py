"""Tokens and multiply-accumulates of each method, so that all stand on one axis."""

from __future__ import annotations

from typing import Any

from torch import nn

from rivals.copies import sharing_copy
from rivals.methods import METHODS
from tome_audio.merge import Rate, encoder_macs, expand_schedule, tokens_per_layer
from tome_audio.patch import apply_patch, describe
from tome_audio.patch.registry import UnsupportedModelError, find_encoders

_MERGING: dict[str, dict[str, Any]] = {
    "merged": {},
    "merged-random": {"matching": "random"},
    "merged-unfused": {"prefix_only": False},
}


def tokens_and_macs(name: str, model: nn.Module, r: Rate, n_tokens: int) -> tuple[tuple[int, ...], int]:
    """Return the tokens entering each block (last: those leaving) and the MACs of all blocks, for one clip.

    What it takes to choose tokens is not counted: neither matching nor the rows of class attention. Of several
    encoders the first is counted.

    Args:
        name: one of `METHODS`.
        model: the unpatched model; it stays as it is.
        r: tokens merged or dropped per block.
        n_tokens: N entering block 0, prefix included.

    Raises:
        ValueError: if the method is unknown, the model is patched, or `r` is not understood.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; choose one of {', '.join(METHODS)}")
    model = sharing_copy(model)
    if name in _MERGING:
        report = describe(apply_patch(model, r, **_MERGING[name]), n_tokens)
        return report.tokens, sum(report.macs)
    return _count_dropping(model, 0 if name == "unpatched" else r, n_tokens)


def _count_dropping(model: nn.Module, r: Rate, n_tokens: int) -> tuple[tuple[int, ...], int]:
    encoder, adapter = next(find_encoders(model), (None, None))
    if encoder is None or adapter is None:
        raise UnsupportedModelError(f"{type(model).__name__} holds no encoder of a known family")
    blocks: Any = getattr(encoder, adapter.blocks)
    tokens = tokens_per_layer(expand_schedule(r, len(blocks)), n_tokens, adapter.n_prefix(encoder))
    return tokens, encoder_macs([adapter.cost(block) for block in blocks], tokens)
