"""Scores where every clip has one label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tome_audio.installation import import_extra


@dataclass(frozen=True)
class SingleLabelScores:
    """Scores in [0, 1]. Macro means are over the classes that have clips; `n_left_out` classes have none.

    `precision`, `recall` and `f1` (K,) are per class, in float64, and NaN for classes without clips. A class that is
    never answered has precision and F1 of 0. `n_positives` (K,) counts the clips of each class.
    """

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    n_clips: int
    n_left_out: int
    precision: Tensor
    recall: Tensor
    f1: Tensor
    n_positives: Tensor

    def figures(self) -> dict[str, float]:
        """Return the figures over all classes by name."""
        names = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
        return {name: getattr(self, name) for name in names}


def single_label_scores(answer: Tensor, target: Tensor, n_classes: int | None = None) -> SingleLabelScores:
    """Return accuracy, and precision, recall and F1 per class and as macro means.

    Args:
        answer: Logits or probabilities (B, K), of which the largest counts, or class indices (B,) with `n_classes`.
        target: Class indices (B,).
        n_classes: K, where the answers are indices.

    Raises:
        ValueError: Targets that are not one label per clip, shapes that do not fit, NaN answers, a class out of range.
        ImportError: torchmetrics is absent.
    """
    answer, n_classes = _indices(answer, n_classes)
    _check(answer, target, n_classes)
    classification = import_extra("torchmetrics.functional.classification", "scoring", "recipes")
    answer, target = answer.cpu(), target.cpu()
    # Counts in int64 first: torchmetrics' own ratios are float32.
    counts = classification.multiclass_stat_scores(answer, target, num_classes=n_classes, average="none").double()
    right, wrong, _, missed, positives = counts.unbind(1)
    has_clips = positives > 0
    per_class = {
        "precision": right / (right + wrong).clamp(min=1),
        "recall": right / positives.clamp(min=1),
        "f1": 2 * right / (2 * right + wrong + missed).clamp(min=1),
    }
    macro = {f"macro_{name}": values[has_clips].mean().item() for name, values in per_class.items()}
    return SingleLabelScores(
        accuracy=(right.sum() / len(target)).item(),
        n_clips=len(target),
        n_left_out=int((~has_clips).sum()),
        n_positives=positives.long(),
        **macro,
        **{name: values.masked_fill(~has_clips, torch.nan) for name, values in per_class.items()},
    )


def _indices(answer: Tensor, n_classes: int | None) -> tuple[Tensor, int]:
    if answer.ndim == 2 and answer.is_floating_point():
        if n_classes not in (None, answer.shape[1]):
            raise ValueError(f"n_classes is {n_classes}, but the answers have {answer.shape[1]} columns")
        if bool(answer.isnan().any()):
            raise ValueError("answers hold NaN: the model's output is not usable")
        return answer.argmax(1), answer.shape[1]
    if answer.ndim == 1 and answer.dtype == torch.int64 and n_classes is not None:
        return answer, n_classes
    raise ValueError(
        f"answers must be logits (clips, classes), or int64 class indices (clips,) together with n_classes; "
        f"got {answer.dtype} of shape {tuple(answer.shape)}"
    )


def _check(answer: Tensor, target: Tensor, n_classes: int) -> None:
    if target.ndim != 1:
        raise ValueError(
            f"target of shape {tuple(target.shape)} is not one label per clip: accuracy means nothing where a clip has "
            "several labels; use multi_label_scores"
        )
    if len(target) == 0 or target.dtype != torch.int64 or len(answer) != len(target):
        raise ValueError(
            f"target must be int64 class indices ({len(answer)},) of at least one clip, "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )
    for name, values in (("target", target), ("answers", answer)):
        if not 0 <= int(values.min()) <= int(values.max()) < n_classes:
            raise ValueError(f"{name} must be classes from 0 to {n_classes - 1}, got {values.min()} to {values.max()}")


def per_class_rows(scores: SingleLabelScores, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row per class: label, n_positives, precision, recall, f1 (NaN for classes without clips).

    Raises:
        ValueError: Not one label per class.
    """
    if len(labels) != len(scores.f1):
        raise ValueError(f"{len(labels)} labels for {len(scores.f1)} classes")
    columns = (scores.n_positives, scores.precision, scores.recall, scores.f1)
    names = ("label", "n_positives", "precision", "recall", "f1")
    return [
        dict(zip(names, row, strict=True)) for row in zip(labels, *(column.tolist() for column in columns), strict=True)
    ]
