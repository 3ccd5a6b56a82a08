"""Merging while training: the same r in every step, or one drawn for each, so that one checkpoint serves many."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tome_audio.merge import AUTO, ComputeTarget, Rate, check_rate
from tome_audio.patch import set_r

Batch = Mapping[str, Any]


class Task(Protocol):
    """What `MergedTask` wraps: any task of the trainer."""

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean loss of a batch, and scalars to be logged."""
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return what `metrics` needs of a batch."""
        ...

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return figures by name."""
        ...

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the number that picks the best epoch."""
        ...


@dataclass(frozen=True)
class OneOf:
    """One of these settings of r, each as likely as the others; name one twice to make it twice as likely.

    Raises:
        ValueError: There are none, or one is not understood.
    """

    rates: Sequence[Rate]

    def __post_init__(self) -> None:
        if not self.rates:
            raise ValueError("r is drawn from a list without settings: give at least one")
        object.__setattr__(self, "rates", tuple(check_rate(rate) for rate in self.rates))


@dataclass(frozen=True)
class Between:
    """The same number of tokens in each block, a whole number from low to high, both included.

    Raises:
        ValueError: Not 0 <= low <= high.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"r must be drawn from 0 <= low <= high, got {self.low} to {self.high}")


@dataclass(frozen=True)
class TargetBetween:
    """A `ComputeTarget` of so many times fewer MACs, drawn in steps of 0.1 from low to high, both included.

    Raises:
        ValueError: Not 1 <= low <= high, or the shape is unknown.
    """

    low: float
    high: float
    shape: str = AUTO

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"a compute target must be drawn from 1 <= low <= high, got {self.low} to {self.high}")
        ComputeTarget(self.high, self.shape)


Drawn = OneOf | Between | TargetBetween


def draw_rate(rates: Drawn, step: int, seed: int) -> Rate:
    """Return the r of one step: it depends on (seed, step) alone, so all processes and a resumed run draw the same."""
    chance = random.Random(f"{seed}:{step}")
    if isinstance(rates, OneOf):
        return rates.rates[chance.randrange(len(rates.rates))]
    if isinstance(rates, Between):
        return chance.randint(rates.low, rates.high)
    # In steps, so that the few schedules they come to are worked out once.
    stairs = int((rates.high - rates.low) * 10 + 1e-9)
    return ComputeTarget(min(rates.high, rates.low + chance.randint(0, stairs) / 10), rates.shape)


class MergedTask:
    """Any task, with the tokens of a patched model merging.

    Sets r in each step and each evaluation, and leaves it there: activation checkpointing runs the model once more in
    the backward pass, and must find what the forward pass found.

    Args:
        task: What is learnt.
        train: r in training; `OneOf`, `Between` and `TargetBetween` draw it for each step.
        evaluate: r in evaluation, 0 for the unmerged model. None evaluates as trained, where r is not drawn.
        seed: Of what is drawn.

    Raises:
        ValueError: A setting of r that is not understood, or `evaluate` is None and r is drawn.
    """

    def __init__(self, task: Task, train: Rate | Drawn, evaluate: Rate | None = None, seed: int = 0) -> None:
        self.task, self.seed = task, seed
        self.train: Rate | Drawn = train if isinstance(train, OneOf | Between | TargetBetween) else check_rate(train)
        if evaluate is None:
            if isinstance(self.train, OneOf | Between | TargetBetween):
                raise ValueError("r is drawn in training: say which r to evaluate with, 0 for the unmerged model")
            evaluate = self.train
        self.evaluate = check_rate(evaluate)

    def rate(self, step: int) -> Rate:
        """Return the r of a step in training."""
        if isinstance(self.train, OneOf | Between | TargetBetween):
            return draw_rate(self.train, step, self.seed)
        return self.train

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the task's loss and logs with the r of this step.

        Raises:
            NotPatchedError: The model is not patched.
        """
        set_r(model, self.rate(step))
        return self.task.loss(model, batch, step, generator)

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """Return what the task counts over a step; nothing where it counts nothing."""
        counts: Callable[[Batch], Mapping[str, int]] | None = getattr(self.task, "counts", None)
        return {} if counts is None else counts(batch)

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the task's outputs with the r of evaluation.

        Raises:
            NotPatchedError: The model is not patched.
        """
        set_r(model, self.evaluate)
        return self.task.outputs(model, batch)

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the task's figures."""
        return self.task.metrics(outputs)

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the task's score."""
        return self.task.score(metrics)

    def facts(self) -> dict[str, Any]:
        """Return the task's facts, and r in training and evaluation, as plain values."""
        facts: Callable[[], Mapping[str, Any]] | None = getattr(self.task, "facts", None)
        merge = {"train": repr(self.train), "evaluate": repr(self.evaluate), "seed": self.seed}
        return {**({} if facts is None else facts()), **{f"merge.{name}": value for name, value in merge.items()}}
