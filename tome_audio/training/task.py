"""What the trainer needs to know of a task and of its clips, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]
"""Tensors whose first axis is the clip, by name; what is no tensor stays where it is."""


class Task(Protocol):
    """What is learnt, and what counts as better.

    In half precision `loss` and `outputs` run under autocast, so the model may answer in bf16 or fp16. A task with a
    method `facts` says what it is, as plain values by name: a resumed run must say the same.
    """

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean loss of a batch, a scalar, and scalars by name to be logged: the same names every time.

        Args:
            model: In train mode, perhaps wrapped for several processes: call it once with gradient.
            batch: On the model's device.
            step: Optimiser steps taken so far: the same in all processes and parts of a step.
            generator: On the CPU, for what is random in this batch alone.
        """
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return what `metrics` needs of a batch: tensors whose first axis is the clip. Eval mode, no gradient."""
        ...

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return figures by name from the outputs of all clips, in their order, on the CPU."""
        ...

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the one number that picks the best epoch: larger is better."""
        ...


@runtime_checkable
class CountingTask(Protocol):
    """A task whose loss is a mean over some clips of the whole step, of which a batch alone is a part."""

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Return numbers of clips by name, the same names every time: none where nothing is to be counted.

        `loss` finds under these names in its batch what each part of the step would count if all counted alike: the
        sum over all parts and processes, times the batch's part of the clips of the step.
        """
        ...


class Clips(Protocol):
    """Clips by number; what they hold is between them, the `collate` function and the task."""

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return a clip as it is, without anything random."""
        ...


@runtime_checkable
class DrawnClips(Protocol):
    """Clips with something random about them in training: augmentation, mixup."""

    def draw(self, index: int, generator: torch.Generator) -> Any:
        """Return a clip for training; the generator is its own, and depends on its place in the epoch alone."""
        ...
