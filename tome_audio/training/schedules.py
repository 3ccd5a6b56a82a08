"""Learning-rate curves: what the peak is multiplied with, as a pure function of where the run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tome_audio.training.optim import warmup_cosine

Curve = Literal["constant", "multistep", "cosine"]


def staircase_warmup(step: int, n_steps: int, every: int) -> float:
    """Return AST's warm-up: every `every` steps the factor becomes step / n_steps, so the first stair is 0.

    Gong et al., 2021, arXiv 2104.01778: n_steps = 1000, every = 50.
    """
    return min(1.0, step // every * every / n_steps) if step < n_steps else 1.0


def linear_warmup(step: int, n_steps: int) -> float:
    """Return a straight rise whose first step moves already and which is 1 from step `n_steps` on."""
    return min(1.0, (step + 1) / (n_steps + 1))


def multistep(epoch: int, start: int, every: int, decay: float) -> float:
    """Return the factor in `epoch` (from 0): times `decay` after `start` epochs, then after each `every` more."""
    return 1.0 if epoch < start else float(decay ** ((epoch - start) // every + 1))


@dataclass(frozen=True)
class LearningRate:
    """A warm-up and a curve.

    Attributes:
        curve: "constant", "multistep" (AST's) or "cosine" (down to 0 at the last step).
        warmup_steps: Steps of rising; 0 is none.
        warmup_every: 0 rises in a straight line; more rises in stairs of so many steps, as AST does.
        start: Epochs before the first decay of "multistep".
        every: Epochs between its decays.
        decay: What each of them multiplies with, in (0, 1].

    Raises:
        ValueError: An unknown curve, or a number out of range.
    """

    curve: Curve = "cosine"
    warmup_steps: int = 0
    warmup_every: int = 0
    start: int = 10
    every: int = 5
    decay: float = 0.5

    def __post_init__(self) -> None:
        if self.curve not in get_args(Curve):
            raise ValueError(f"curve={self.curve!r} is unknown; choose one of {', '.join(get_args(Curve))}")
        for name, least in (("warmup_steps", 0), ("warmup_every", 0), ("start", 0), ("every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} of a learning rate must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay of a learning rate must be in (0, 1], got {self.decay}")

    def factor(self, step: int, epoch: int, total_steps: int) -> float:
        """Return the factor on the peak at `step` of `total_steps`, in `epoch`; all count from 0.

        Raises:
            ValueError: The warm-up is as long as the run, or longer.
        """
        if self.warmup_steps and self.warmup_steps >= total_steps:
            raise ValueError(
                f"{self.warmup_steps} steps of warm-up do not fit into a run of {total_steps}: lower warmup_steps"
            )
        rise = 1.0
        if step < self.warmup_steps:
            stairs = self.warmup_every
            rise = (
                staircase_warmup(step, self.warmup_steps, stairs) if stairs else linear_warmup(step, self.warmup_steps)
            )
        if self.curve == "multistep":
            return rise * multistep(epoch, self.start, self.every, self.decay)
        if self.curve == "cosine" and step >= self.warmup_steps:
            return warmup_cosine(step - self.warmup_steps, total_steps - self.warmup_steps, 0.0)
        return rise
