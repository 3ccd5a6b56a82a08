"""How a run is trained, as one checked value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from tome_audio.training.schedules import LearningRate

Precision = Literal["fp32", "bf16", "fp16"]
Optimizer = Literal["adamw", "adam"]

FREE_TO_CHANGE = frozenset({"save_every", "keep", "workers", "cpu"})
"""Settings that a resumed run may change: they do not touch what comes out."""


@dataclass(frozen=True)
class TrainerSettings:
    """Everything the trainer decides by itself.

    Attributes:
        epochs: Passes over the training clips.
        batch_size: Clips per process and part of a step.
        accumulate: Parts of a step whose gradients are added up.
        lr: Learning rate at the top of the curve.
        learning_rate: The curve.
        optimizer: "adamw" (weight matrices decay), or "adam" as in AST (an L2 penalty on everything).
        betas: Of the optimiser; None takes 0.9 and 0.999 for AdamW, AST's 0.95 and 0.999 for Adam.
        weight_decay: AST's recipes have 5e-7, with Adam.
        clip_norm: Largest norm of the gradient of all parameters together; None clips nothing.
        precision: "fp32", "bf16" or "fp16" (scaled gradients; needs a GPU).
        checkpoint_activations: Keep less in memory and compute it again, where the model offers it.
        ema_decay: Of the moving average of the weights, which is then what is evaluated; None keeps none.
        average: First and last epoch (from 1) of the plain mean of weights; None averages nothing.
        patience: Epochs without a better score before the run stops; None never stops early.
        save_every: Steps between checkpoints, beside one after each epoch; 0 saves after epochs alone.
        keep: Checkpoints that stay.
        seed: Fixes order, augmentation and dropout.
        eval_batch_size: None takes `batch_size`.
        workers: Processes that read clips; 0 reads them in the training process.
        cpu: Train on the CPU though there is a GPU.

    Raises:
        ValueError: A setting out of range.
    """

    epochs: int
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 5e-4
    learning_rate: LearningRate = field(default_factory=LearningRate)
    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] | None = None
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    precision: Precision = "fp32"
    checkpoint_activations: bool = False
    ema_decay: float | None = None
    average: tuple[int, int] | None = None
    patience: int | None = None
    save_every: int = 0
    keep: int = 2
    seed: int = 0
    eval_batch_size: int | None = None
    workers: int = 0
    cpu: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", get_args(Optimizer)), ("precision", get_args(Precision))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")
        for name in ("epochs", "batch_size", "accumulate", "keep", "patience", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("save_every", "workers", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.average is not None and not 1 <= self.average[0] <= self.average[1] <= self.epochs:
            raise ValueError(
                f"average must be a first and a last epoch from 1 to {self.epochs}, got {tuple(self.average)}"
            )

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values.

        The number of epochs is left out where the learning rate does not depend on it: such a run may be made longer.
        """
        free = FREE_TO_CHANGE if self.learning_rate.curve == "cosine" else FREE_TO_CHANGE | {"epochs"}
        return {name: value for name, value in asdict(self).items() if name not in free}
