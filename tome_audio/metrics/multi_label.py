"""Scores where a clip may have any number of labels. There is no accuracy among them: it means nothing here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tome_audio.installation import import_extra


@dataclass(frozen=True)
class MultiLabelScores:
    """Means over classes, and per class (K,) in float64 with NaN where a score is not defined.

    `mean_ap` leaves out the `n_without_positives` classes that no clip has; `mean_auc` also leaves out the
    `n_without_negatives` classes that every clip has. `d_prime` is that of `mean_auc`, as published for AudioSet. A
    mean over no class is NaN. `n_positives` (K,) counts the clips of each class.
    """

    mean_ap: float
    mean_auc: float
    d_prime: float
    n_clips: int
    n_without_positives: int
    n_without_negatives: int
    average_precision: Tensor
    auc: Tensor
    class_d_prime: Tensor
    n_positives: Tensor

    def figures(self) -> dict[str, float]:
        """Return the figures over all classes by name."""
        return {"mean_ap": self.mean_ap, "mean_auc": self.mean_auc, "d_prime": self.d_prime}


def multi_label_scores(answer: Tensor, target: Tensor) -> MultiLabelScores:
    """Return average precision, area under the ROC curve and d', per class and over all classes.

    Only the order of the answers within a class counts, so logits and probabilities score the same.

    Args:
        answer: Logits or probabilities (B, K).
        target: Labels (B, K), each 0 or 1.

    Raises:
        ValueError: Wrong shapes, NaN answers, or labels other than 0 and 1.
        ImportError: torchmetrics is absent.
    """
    _check(answer, target)
    classification = import_extra("torchmetrics.functional.classification", "scoring", "recipes")
    ranks, truth = _ranks(answer.cpu()), target.cpu().long()
    n_clips, n_classes = truth.shape
    n_positives = truth.sum(0)
    has_positives, has_negatives = n_positives > 0, n_positives < n_clips
    scored = {"average_precision": has_positives, "auroc": has_positives & has_negatives}
    found = {}
    for name, columns in scored.items():
        found[name] = torch.full((n_classes,), torch.nan, dtype=torch.float64)
        for k in columns.nonzero()[:, 0].tolist():
            found[name][k] = getattr(classification, f"binary_{name}")(ranks[:, k], truth[:, k])
    mean_auc = found["auroc"].nanmean().item()
    return MultiLabelScores(
        mean_ap=found["average_precision"].nanmean().item(),
        mean_auc=mean_auc,
        d_prime=d_prime(mean_auc),
        n_clips=n_clips,
        n_without_positives=int((~has_positives).sum()),
        n_without_negatives=int((~has_negatives).sum()),
        average_precision=found["average_precision"],
        auc=found["auroc"],
        class_d_prime=math.sqrt(2) * torch.special.ndtri(found["auroc"]),
        n_positives=n_positives,
    )


def d_prime(auc: float) -> float:
    """Return sqrt(2) times the normal quantile of an area under the ROC curve; infinite at 0 and 1, NaN for NaN.

    Raises:
        ValueError: The area is not in [0, 1].
    """
    if auc < 0 or auc > 1:
        raise ValueError(f"an area under the ROC curve is from 0 to 1, got {auc}")
    return math.sqrt(2) * torch.special.ndtri(torch.tensor(auc, dtype=torch.float64)).item()


def _ranks(answer: Tensor) -> Tensor:
    # (B, K) in (0, 1), equal where answers are equal. torchmetrics would put logits through a float32 sigmoid, which
    # makes 20 and 30 equal.
    ranks = [column.unique(return_inverse=True)[1] for column in answer.unbind(1)]
    return (torch.stack(ranks, 1).double() + 1) / (len(answer) + 1)


def _check(answer: Tensor, target: Tensor) -> None:
    if answer.ndim != 2 or 0 in answer.shape or not answer.is_floating_point() or answer.shape != target.shape:
        raise ValueError(
            f"answers and target must be (clips, classes) alike, with floating-point answers; got {answer.dtype} of "
            f"shape {tuple(answer.shape)} and {target.dtype} of shape {tuple(target.shape)}"
        )
    if bool(answer.isnan().any()):
        raise ValueError("answers hold NaN: the model's output is not usable")
    if not bool(((target == 0) | (target == 1)).all()):
        raise ValueError("target must be 0 or 1 everywhere: score against unmixed, unsmoothed labels")
