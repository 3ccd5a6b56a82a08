"""Classification of clips with one label or several, with a teacher beside the labels where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tome_audio.losses import hard_loss
from tome_audio.tasks.facts import named_facts
from tome_audio.tasks.teachers import logits_of

Batch = Mapping[str, Any]
Augment = Callable[[Tensor, torch.Generator], Tensor]


class HasFigures(Protocol):
    """Scores that name their overall figures, as those of `tome_audio.metrics` do."""

    def figures(self) -> Mapping[str, float]:
        """Return figures by name."""
        ...


Scores = Callable[[Tensor, Tensor], Mapping[str, float] | HasFigures]


class Distillation(Protocol):
    """Labels and a teacher weighed against each other."""

    def __call__(
        self, student: Tensor, target: Tensor, teacher: Tensor, *, known: Tensor | None, n_known: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return total, hard (labels) and soft (teacher) loss, scalars.

        Args:
            student: Logits (B, K).
            target: Class indices (B,) or labels (B, K).
            teacher: Logits (B, K), or whatever the batch holds as `teacher`.
            known: Clips (B,) that the teacher knows; None means all.
            n_known: What the soft loss divides its sum over known clips by; None or not given means their number.
        """
        ...


class Teacher(Protocol):
    """A teacher that answers while the student trains."""

    def __call__(self, student: nn.Module, features: Tensor, **inputs: Any) -> Tensor:
        """Return logits (B, K) without gradient."""
        ...


class Classification:
    """A task for `Trainer`.

    A batch holds `features` (B, ...) and `labels`: class indices (B,), or labels (B, K) in [0, 1], mixed or several per
    clip. With distillation it also holds `teacher` (B, K) and perhaps `teacher_known` (B,), bool, unless a teacher
    answers in the loop. What it holds under the names in `inputs` goes to the model by that name.

    Where a teacher knows only some clips, the trainer counts them over the whole step (`counts`): a step in several
    parts or processes learns what the same clips in one batch would teach.

    Args:
        binary: Binary cross-entropy per class instead of cross-entropy: for several labels per clip, and for Speech
            Commands in AST's recipe.
        label_smoothing: Part of a label spread evenly over the classes; cross-entropy only.
        distillation: Loss of labels and teacher together; None learns from labels alone.
        teacher: Answers in the loop and needs `distillation`; None takes the batch's `teacher`.
        augment: Called on the features of training batches with a generator on the CPU, before model and teacher.
        scores: Figures from logits (N, K) and labels of all validation clips, such as `single_label_scores` and
            `multi_label_scores`. None gives accuracy where labels are class indices, and nothing beside the loss where
            they are not.
        best: Which figure picks the best epoch; "loss" is the lower the better, anything else the higher.
        inputs: Names of further inputs of the model, such as "lengths".

    Raises:
        ValueError: Settings that do not go together.
    """

    def __init__(
        self,
        *,
        binary: bool = False,
        label_smoothing: float = 0.0,
        distillation: Distillation | None = None,
        teacher: Teacher | None = None,
        augment: Augment | None = None,
        scores: Scores | None = None,
        best: str = "loss",
        inputs: Sequence[str] = (),
    ) -> None:
        if teacher is not None and distillation is None:
            raise ValueError("a teacher without a distillation loss teaches nothing: give both, or neither")
        if not 0 <= label_smoothing < 1 or (label_smoothing and (binary or distillation is not None)):
            raise ValueError(
                f"label_smoothing={label_smoothing} must be in [0, 1) and goes with cross-entropy alone; "
                "a distillation loss brings its own"
            )
        self.binary, self.label_smoothing = binary, label_smoothing
        self.distillation, self.teacher = distillation, teacher
        self.augment, self.scores, self.best, self.inputs = augment, scores, best, tuple(inputs)

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a training batch; with distillation its two parts are logged.

        Raises:
            ValueError: Distillation without a teacher in the loop or in the batch, or labels that do not fit the
                logits or, without `binary`, do not add up to 1 for a clip.
        """
        features = batch["features"]
        if self.augment is not None:
            features = self.augment(features, generator)
        inputs = {name: batch[name] for name in self.inputs}
        counted = {"n_known": batch["n_known"]} if batch.get("n_known") else {}
        if self.distillation is None:
            return self._hard(logits_of(model(features, **inputs)), batch["labels"]), {}
        if self.teacher is not None:  # first: the student's own pass must be the last before the backward pass
            teacher, known = _wide(self.teacher(model, features, **inputs)), None
        elif "teacher" in batch:
            teacher, known = batch["teacher"], batch.get("teacher_known")
        else:
            raise ValueError(
                "distillation needs a teacher: give the task one, or put `teacher` (B, K) into the batches"
            )
        student = _wide(logits_of(model(features, **inputs)))
        total, hard, soft = self.distillation(student, batch["labels"], teacher, known=known, **counted)
        return total, {"hard": hard.detach(), "soft": soft.detach()}

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return how many clips of a batch the teacher knows; nothing where the batch does not say which."""
        if self.distillation is None or self.teacher is not None or "teacher_known" not in batch:
            return {}
        return {"n_known": int(batch["teacher_known"].sum())}

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return logits (B, K) in float32, and the labels."""
        inputs = {name: batch[name] for name in self.inputs}
        return {"logits": logits_of(model(batch["features"], **inputs)).float(), "labels": batch["labels"]}

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the loss against the labels, and the scores.

        Raises:
            ValueError: The figure that picks the best epoch is not among them.
        """
        logits, labels = outputs["logits"], outputs["labels"]
        figures = {"loss": float(self._hard(logits, labels))}
        if self.scores is not None:
            found = self.scores(logits, labels)
            named = found if isinstance(found, Mapping) else found.figures()
            figures |= {name: float(value) for name, value in named.items()}
        elif labels.ndim == 1:
            figures["accuracy"] = float((logits.argmax(1) == labels).double().mean())
        if self.best not in figures:
            raise ValueError(f"best={self.best!r} is not among the figures {', '.join(figures)}")
        return figures

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the figure that picks the best epoch, the loss with its sign turned."""
        return -metrics["loss"] if self.best == "loss" else metrics[self.best]

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values; of functions and teachers the names."""
        named = {name: getattr(self, name) for name in ("distillation", "teacher", "augment", "scores")}
        plain = {"binary": self.binary, "label_smoothing": self.label_smoothing, "best": self.best}
        facts: dict[str, Any] = {"kind": type(self).__name__, **plain, "inputs": list(self.inputs)}
        for name, value in named.items():
            facts |= named_facts(name, value)
        return facts

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        return hard_loss(logits, labels, multi_label=self.binary, label_smoothing=self.label_smoothing)


def _wide(logits: Tensor) -> Tensor:
    # A loss in half precision loses small differences, and some are negative that cannot be.
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
