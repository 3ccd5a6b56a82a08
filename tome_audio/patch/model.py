"""What a patched model offers: `model.r`, its options, its block lists, and traces of its merges."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from tome_audio.merge import Rate
from tome_audio.patch.blocks import MergedBlocks, check_depth
from tome_audio.patch.classes import Swapped
from tome_audio.patch.config import MergeConfig
from tome_audio.patch.trace import Trace, collect


class NotPatchedError(RuntimeError, AttributeError):
    """The model has not been patched. An AttributeError too: `hasattr(model, "r")` is then False, not an error."""


class PatchedModel(Swapped):
    """Gives the patched model, and the encoder inside it, the attribute `r`."""

    @property
    def r(self) -> Rate:
        """What merges: int, list per block, (r, inflection), `Schedule`, `ComputeTarget` or `SimilarityThreshold`."""
        return merge_config(self).r  # type: ignore[arg-type]

    @r.setter
    def r(self, value: Rate) -> None:
        set_r(self, value)  # type: ignore[arg-type]


def is_patched(model: nn.Module) -> bool:
    """Return whether the model, or a part of it, is patched."""
    return any(isinstance(module, MergedBlocks) for module in model.modules())


def merged_blocks(model: nn.Module) -> list[MergedBlocks]:
    """Return the block lists that `apply_patch` has put into the model.

    Raises:
        NotPatchedError: if there are none.
    """
    found = [module for module in model.modules() if isinstance(module, MergedBlocks)]
    if not found:
        raise NotPatchedError(f"{type(model).__name__} is not patched: call apply_patch(model) first")
    return found


def merge_config(model: nn.Module) -> MergeConfig:
    """Return a copy of the options the model is patched with.

    Raises:
        NotPatchedError: if the model is not patched.
    """
    # Copied, not made anew: its names may have been unregistered since.
    return copy.deepcopy(merged_blocks(model)[0].config)


def set_r(model: nn.Module, r: Rate) -> None:
    """Set how many tokens each block merges; the same as `model.r = r`.

    Raises:
        NotPatchedError: if the model is not patched.
        ValueError: if `r` is not understood, or lists more blocks than the model has.
    """
    lists = merged_blocks(model)
    for blocks in lists:
        check_depth(r, blocks.depth)
    for blocks in lists:
        blocks.__dict__["config"] = replace(blocks.config, r=r)
        blocks.prepare()


@contextmanager
def trace(model: nn.Module) -> Iterator[list[Trace]]:
    """Collect a `Trace` for every pass over the blocks of the model while the context is open.

    Write `with trace(model) as traces: model(x)`. Sees the passes of this thread only, and not those of a compiled
    model: trace before compiling.

    Raises:
        NotPatchedError: if the model is not patched.
    """
    with collect(merged_blocks(model)) as traces:
        yield traces
