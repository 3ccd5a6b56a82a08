"""The record of what one forward pass merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

from tome_audio.merge import MergePlan, identity_plan

_active: ContextVar[tuple[Sequence[object], list[Trace]] | None] = ContextVar("tome_audio_trace", default=None)


@dataclass
class Trace:
    """What one forward pass merged, layer by layer.

    `n_tokens` enter; `tokens` holds those entering each block (after rounds before the first) and, last, those leaving.
    `plan(i)` maps the input tokens to the tokens after
    block i; `sizes[i]` (B, M) counts how many input tokens each stands for (None: one each).
    """

    batch: int = 0
    n_tokens: int = 0
    n_prefix: int = 0
    tokens: list[int] = field(default_factory=list)
    sizes: list[Tensor | None] = field(default_factory=list)
    plans: list[MergePlan | None] = field(default_factory=list)
    collected: list[Trace] | None = field(default=None, repr=False)

    def start(self, batch: int, n_tokens: int, first: int, n_prefix: int) -> None:
        """Begin a pass over B clips of N = `n_tokens` tokens, `first` of them no padding; repeats are ignored."""
        if not self.tokens:
            self.batch, self.n_tokens, self.n_prefix, self.tokens = batch, n_tokens, n_prefix, [first]
            if self.collected is not None:
                self.collected.append(self)

    def record(self, index: int, after: int, total: MergePlan | None, size: Tensor | None) -> None:
        """Note that block `index` left `after` tokens; a repeated block (checkpointing) is ignored."""
        if index == len(self.plans):
            self.tokens.append(after)
            self.plans.append(total)
            self.sizes.append(size)

    def plan(self, layer: int = -1) -> MergePlan:
        """Return the plan (B, N) from the input tokens to the tokens after block `layer`.

        Raises:
            IndexError: if the pass had no such block.
        """
        total = self.plans[layer]
        return identity_plan(self.batch, self.n_tokens) if total is None else total


@contextmanager
def collect(lists: Sequence[object]) -> Iterator[list[Trace]]:
    """Collect a trace for every pass over one of these block lists in this context."""
    traces: list[Trace] = []
    token = _active.set((lists, traces))
    try:
        yield traces
    finally:
        _active.reset(token)


def new_trace(blocks: object) -> Trace | None:
    """Return a new trace if somebody collects passes over this block list, None otherwise.

    It joins the collection when its pass starts: whoever only looks at the list leaves no trace.
    """
    active = _active.get()
    if active is None or not any(blocks is wanted for wanted in active[0]):
        return None
    return Trace(collected=active[1])
