"""What a run tells: a record per step and per epoch, where it stands, and how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step.

    Attributes:
        epoch: From 0.
        step: From 0, over the whole run.
        loss: Mean over the clips of the step, in all processes.
        lr: Learning rate of the step.
        grad_norm: Norm of the gradient before clipping.
        logs: What the task logged, averaged like the loss.
        skipped: The gradient overflowed in fp16, and the weights stayed as they were.
        seconds: Wall time.
    """

    epoch: int
    step: int
    loss: float
    lr: float
    grad_norm: float
    logs: dict[str, float]
    skipped: bool
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: mean training loss per clip, figures on the validation clips, their score, last lr, wall seconds."""

    epoch: int
    step: int
    loss: float
    lr: float
    metrics: dict[str, float]
    score: float | None
    seconds: float = field(compare=False)


@dataclass
class Position:
    """Where a run stands, and what it went through: all that a checkpoint keeps beside weights and optimiser.

    Attributes:
        epoch: Epochs done.
        step_in_epoch: Steps taken in the epoch that is running.
        step: Steps taken in the whole run.
        loss_sum: Sum of the loss over the clips of the running epoch.
        n_clips: Their number.
        seconds: Wall time of the running epoch so far.
        records: One per epoch done.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    n_clips: int = 0
    seconds: float = 0.0
    records: list[EpochRecord] = field(default_factory=list)

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch with the highest score; None where nothing was scored."""
        scored = [record for record in self.records if record.score is not None]
        return max(scored, key=lambda record: record.score or 0.0, default=None)

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since the best one."""
        return 0 if self.best is None else self.epoch - 1 - self.best.epoch

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Position:
        """Return what `to_dict` wrote."""
        return cls(**{**values, "records": [EpochRecord(**record) for record in values["records"]]})


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left.

    Attributes:
        records: One per epoch.
        best: The epoch with the highest score; None without validation clips.
        best_weights: Weights after it, those that were scored; None without validation clips.
        last_weights: Weights at the end; with a moving average, the average.
        averaged_weights: The plain mean over epochs, where it was asked for and an epoch of it was reached.
        averaged_metrics: Its figures on the validation clips.
        stopped_early: The score had not risen for `patience` epochs.
    """

    records: list[EpochRecord]
    best: EpochRecord | None
    best_weights: Path | None
    last_weights: Path
    averaged_weights: Path | None
    averaged_metrics: dict[str, float]
    stopped_early: bool
