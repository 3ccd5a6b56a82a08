"""The block list of a patched model: each pass over it hands out steps that share the state of one call."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.merge import (
    Amounts,
    BlockCost,
    ComputeTarget,
    Rate,
    Schedule,
    SimilarityThreshold,
    expand_schedule,
    resolve_rate,
)
from tome_audio.patch.adaptive import ThresholdState, leave_uncompiled
from tome_audio.patch.classes import Swapped
from tome_audio.patch.config import MergeConfig
from tome_audio.patch.prefix import is_prefix_read
from tome_audio.patch.recording import add_recorder
from tome_audio.patch.registry import Adapter
from tome_audio.patch.state import MergeState
from tome_audio.patch.trace import new_trace


def check_depth(r: Rate, depth: int) -> None:
    """Raise unless r can be asked of a model with so many blocks.

    Raises:
        ValueError: if `r` is not understood, or lists more blocks than there are.
    """
    if isinstance(r, SimilarityThreshold):
        r.of_blocks(depth)
    elif not isinstance(r, ComputeTarget):
        expand_schedule(r, depth)


class MergedBlock(Swapped):
    """A block that merges tokens between attention and feed-forward when a step of a call runs it.

    Modifications to the model's block: `forward` takes `merge_step`. Without anything to merge it calls the block's
    own forward; otherwise it runs the block's own modules through the adapter. Going through the module's `__call__`
    keeps hooks, output recording and checkpointing of the base model alive.
    """

    def forward(self, *args: Any, merge_step: Step | None = None, **kwargs: Any) -> Tensor:
        """Run the block: (B, N, C) -> (B, M, C). The tokens are the first positional argument."""
        if merge_step is None:
            warnings.warn(
                "a block of a patched model was called on its own: it merges nothing; call the model, or loop over "
                "its block list",
                stacklevel=2,
            )
        if merge_step is None or merge_step.state.is_plain(merge_step.index, *args, **kwargs):
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        return merge_step.state.run(merge_step.index, self, *args, **kwargs)


class Step:
    """One block in one call. Callable like the block, and otherwise stands for it: other attributes are the block's."""

    state: MergeState
    index: int
    block: nn.Module

    def __init__(self, state: MergeState, index: int, block: nn.Module) -> None:
        self.state = state
        self.index = index
        self.block = block

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block through its own `__call__`: (B, N, C) -> (B, M, C)."""
        return self.block(*args, merge_step=self, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "block":  # not set yet, while copying
            raise AttributeError(name)
        return getattr(self.block, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("state", "index", "block"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.block, name, value)

    def __repr__(self) -> str:
        return repr(self.block)


class MergedBlocks(nn.ModuleList):
    """Stands in for a model's `nn.Sequential` or `nn.ModuleList` of blocks; same children, same state_dict keys.

    Iterating over it or calling it starts a new call: fresh steps around one fresh `MergeState`. Integer indexing gives
    the block itself; slices that begin at the front give a list of this kind.
    """

    original: nn.Module
    adapter: Adapter
    config: MergeConfig
    n_prefix: int
    restore: bool
    reads_prefix: bool
    head_tokens: int
    layers: range
    costs: tuple[BlockCost, ...]
    grid_rows: int = 1

    @classmethod
    def wrap(
        cls,
        original: nn.Module,
        adapter: Adapter,
        config: MergeConfig,
        n_prefix: int,
        restore: bool,
        reads_prefix: bool,
        head_tokens: int,
        costs: tuple[BlockCost, ...],
        grid_rows: int = 1,
    ) -> MergedBlocks:
        """Return a list that shares the children, hooks and flags of `original`, which stays as it is.

        Args:
            original: the model's `nn.Sequential` or `nn.ModuleList`.
            adapter: how its blocks are run.
            config: what to merge.
            n_prefix: P, tokens at the front that are never merged.
            restore: whether the last block gives every token back, because the head pools them.
            reads_prefix: whether the patched model's own `forward` reads the prefix tokens alone.
            head_tokens: how many tokens at the front the head may read.
            costs: what each block of the whole model costs.
            grid_rows: in how many rows of frequency the patches lie.
        """
        self = cls.__new__(cls)
        self.__dict__.update(original.__dict__)
        # Past nn.Module.__setattr__, which would register the original as a child and double the state_dict.
        self.__dict__.update(original=original, adapter=adapter, config=config, n_prefix=n_prefix, restore=restore)
        self.__dict__.update(
            reads_prefix=reads_prefix, head_tokens=head_tokens, costs=costs, layers=range(len(original._modules))
        )
        self.__dict__.update(grid_rows=grid_rows)
        return self

    def unwrap(self) -> nn.Module:
        """Return the original list, brought up to date."""
        self.original.training = self.training
        return self.original

    def prepare(self) -> None:
        """Do once for a config what no pass has to: let every block hand over what its similarity is measured on."""
        self._check_blocks()
        if isinstance(self.config.r, SimilarityThreshold):
            leave_uncompiled()
        own = self.config.r.metrics if isinstance(self.config.r, Schedule) else ()
        for layer, block in zip(self.layers, self._modules.values(), strict=True):
            metric = (own[layer] if layer < len(own) else "") or self.config.metric
            if metric != "hidden":
                add_recorder(self.adapter.projection(block, metric))

    @property
    def depth(self) -> int:
        """How many blocks the model has; this list may be a part of them."""
        return len(self.costs)

    @property
    def merges(self) -> bool:
        """Whether r asks for anything to merge."""
        r = self.config.r
        if isinstance(r, ComputeTarget):
            return r.macs_cut > 1
        if isinstance(r, SimilarityThreshold):
            return True
        return any(expand_schedule(r, self.depth)) or (isinstance(r, Schedule) and any(r.before))

    def wanted(self, last_queries: int | None) -> tuple[int, ...] | None:
        """Return what r asks of each block of this list, before clamping; None where r leaves the numbers to us."""
        if isinstance(self.config.r, ComputeTarget | SimilarityThreshold):
            return None
        whole = expand_schedule(self.config.r, self.depth)
        return self._own(whole if last_queries is None else (*whole[:-1], 0))

    def resolve(self, n_tokens: int, last_queries: int | None) -> Amounts:
        """Return what this list merges where when N = `n_tokens` tokens enter the whole model.

        Raises:
            ValueError: if r is a target out of reach, or a threshold, which says nothing of numbers.
        """
        if isinstance(self.config.r, ComputeTarget):  # the same numbers for every caller: those of the model's forward
            last_queries = self.queries_of_last(reading=self.reads_prefix)
        whole = resolve_rate(
            self.config.r, n_tokens, self.n_prefix, self.costs, last_queries=last_queries, rows=self.grid_rows
        )
        return Amounts(whole.before, self._own(whole.blocks))

    def _own(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(numbers[layer] for layer in self.layers)

    def queries_of_last(self, *, reading: bool, merging: bool | None = None) -> int | None:
        """Return how many tokens the last block computes, None for all.

        Args:
            reading: whether only the prefix is read.
            merging: whether tokens merge; None asks r.
        """
        wanted = self.config.prefix_only
        if wanted is None:
            wanted = reading and (self.merges if merging is None else merging)
        if not wanted or self.restore or self.config.unmerge or not 0 < self.head_tokens <= self.n_prefix:
            return None
        if self.depth - 1 not in self.layers[-1:]:
            return None
        last: Any = list(self._modules.values())[-1]
        return self.n_prefix if self.adapter.can_attend_prefix(last) else None

    def __iter__(self) -> Iterator[Any]:
        self._check_blocks()
        if self.layers.start > 0 and self._merges_before(self.layers.start):
            raise ValueError(
                f"a part of the blocks that begins at block {self.layers.start} cannot know what was merged before it; "
                "run all blocks from the first on, or set model.r = 0"
            )
        trace = None if torch.compiler.is_compiling() else new_trace(self)
        queries = self.queries_of_last(reading=is_prefix_read())
        kind = ThresholdState if isinstance(self.config.r, SimilarityThreshold) else MergeState
        state = kind(self, queries, trace)
        return iter([Step(state, index, block) for index, block in enumerate(self._modules.values())])

    def __getitem__(self, index: Any) -> Any:
        blocks = list(self._modules.items())
        if not isinstance(index, slice):
            return blocks[index][1]
        picked = type(self.original)()
        picked._modules.update(blocks[index])
        part = MergedBlocks.wrap(
            picked,
            self.adapter,
            self.config,
            self.n_prefix,
            self.restore,
            self.reads_prefix,
            self.head_tokens,
            self.costs,
            self.grid_rows,
        )
        part.__dict__.update(layers=self.layers[index])
        return part

    def _check_blocks(self) -> None:
        if len(self._modules) != len(self.layers):
            raise ValueError("blocks were added or removed after apply_patch: call apply_patch again")

    def _merges_before(self, layer: int) -> bool:
        """Return whether something merges before this block of the model."""
        r = self.config.r
        if isinstance(r, ComputeTarget | SimilarityThreshold):
            return self.merges
        return any(expand_schedule(r, self.depth)[:layer]) or (isinstance(r, Schedule) and any(r.before))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run all blocks: (B, N, C) -> (B, M, C)."""
        for step in self:
            x = step(x, *args, **kwargs)
        return x
