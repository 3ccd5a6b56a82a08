"""Learning from labels and from a teacher's logits at once (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import check_temperature, wide


class DistillationLoss(NamedTuple):
    """`total` = weight * hard + (1 - weight) * soft, and its parts, all scalars; `soft` is 0 where weight is 1."""

    total: Tensor
    hard: Tensor
    soft: Tensor


def distillation_loss(
    student: Tensor,
    target: Tensor,
    teacher: Tensor | None,
    *,
    weight: float,
    multi_label: bool,
    known: Tensor | None = None,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    probabilities: bool = False,
    n_known: float | None = None,
) -> DistillationLoss:
    """Return weight * hard + (1 - weight) * soft, where hard looks at the labels and soft at the teacher.

    With weight = 1 the total is the hard loss itself, bit for bit, and the teacher is not looked at. With weight = 0
    the labels count for nothing. A clip that no teacher knows takes part in the hard mean alone, and the hard part
    keeps its weight whatever is known: how much the labels of a clip count does not depend on what else is in its
    batch. So a batch without any known clip gives weight * hard.

    Args:
        student: Logits (B, K).
        target: Class indices (B,), or one-hot, multi-hot or mixed labels (B, K) in [0, 1].
        teacher: Logits (B, K), or what `soften` made of them; no gradient flows to them. None needs weight = 1.
        weight: Part of the hard loss, the lambda of the recipes, in [0, 1].
        multi_label: Sigmoid and binary cross-entropy, or softmax with cross-entropy and KL divergence.
        known: Which clips (B,) the teacher knows; None means all of them.
        temperature: What both sides are divided by in the soft part.
        label_smoothing: Part of the labels that is spread evenly over the K classes, in [0, 1); hard part only.
        probabilities: `teacher` holds probabilities, softened with this temperature before they were mixed.
        n_known: What the sum over known clips is divided by instead of their number in this batch. Where a batch is
            split over processes or steps of accumulation, and the losses of its parts are weighed by their clips,
            known clips of all parts * clips of this part / clips of all parts gives the gradient of the whole batch.

    Raises:
        ValueError: Wrong shapes or dtypes, labels outside [0, 1], a teacher that is not finite for a clip it knows, or
            a setting out of range.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight (lambda) must be from 0 (teacher only) to 1 (labels only), got {weight}")
    check_temperature(temperature)
    hard = hard_loss(student, target, multi_label=multi_label, label_smoothing=label_smoothing)
    if weight == 1.0:
        return DistillationLoss(hard, hard, torch.zeros_like(hard))
    if teacher is None:
        raise ValueError(f"weight (lambda) {weight} needs the teacher's logits; without a teacher it must be 1")
    soft = soft_loss(
        student,
        teacher,
        multi_label=multi_label,
        known=known,
        temperature=temperature,
        probabilities=probabilities,
        n_known=n_known,
    )
    return DistillationLoss(weight * hard + (1.0 - weight) * soft, hard, soft)


def hard_loss(student: Tensor, target: Tensor, *, multi_label: bool, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean loss of logits (B, K) against labels: cross-entropy, or binary cross-entropy per class.

    Args:
        student: Logits (B, K); half precision is computed in float32.
        target: Class indices (B,), or labels (B, K) in [0, 1]; indices become one-hot labels where `multi_label`.
        multi_label: Binary cross-entropy, averaged over clips and classes, instead of cross-entropy.
        label_smoothing: eps of labels * (1 - eps) + eps / K, in [0, 1).

    Raises:
        ValueError: Wrong shapes or dtypes, an index or a label out of range, or eps out of range.
    """
    _check_logits(student, "student")
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing is a part of the labels, in [0, 1), got {label_smoothing}")
    _check_target(student, target)
    if not multi_label and target.ndim == 2 and not bool(((target.sum(1) - 1).abs() < 0.01).all()):
        raise ValueError("the labels of a clip must add up to 1 where multi_label is False: is this multi-label data?")
    logits, n_classes = wide(student), student.shape[1]
    if not multi_label:
        labels = target if target.ndim == 1 else target.to(logits.dtype)
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    labels = (F.one_hot(target, n_classes) if target.ndim == 1 else target).to(logits.dtype)
    if label_smoothing:
        labels = labels * (1.0 - label_smoothing) + label_smoothing / n_classes
    return F.binary_cross_entropy_with_logits(logits, labels)


def soft_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    multi_label: bool,
    known: Tensor | None = None,
    temperature: float = 1.0,
    probabilities: bool = False,
    n_known: float | None = None,
) -> Tensor:
    """Return T^2 times the distance of the student's softened answers to the teacher's, averaged over known clips.

    Both sides are divided by T. T^2 keeps the gradient's size about the same for every T. Per clip it is the KL
    divergence from the teacher's softmax to the student's, or the mean over classes of the binary cross-entropy of
    the sigmoids. No known clip gives 0, with a gradient of 0. The arguments are those of `distillation_loss`.

    Raises:
        ValueError: Wrong shapes, a teacher that is not finite for a clip it knows, or T or `n_known` not positive.
    """
    _check_logits(student, "student")
    _check_teacher(student, teacher)
    check_temperature(temperature)
    if known is None:
        known = torch.ones(len(student), dtype=torch.bool, device=student.device)
    elif known.dtype != torch.bool or known.shape != student.shape[:1]:
        raise ValueError(
            f"known must be bool of shape ({len(student)},), one per clip, got {known.dtype} {tuple(known.shape)}"
        )
    if n_known is not None and not n_known > 0:
        raise ValueError(f"n_known must be positive, got {n_known}")
    known = known.to(student.device)
    # Filled, not multiplied by 0: a row nobody filled may hold NaN, and 0 * NaN is NaN.
    given = wide(teacher.detach().to(student.device)).masked_fill(~known[:, None], 0.0)
    _check_finite(given, probabilities)
    wanted = given if probabilities else soften(given, temperature, multi_label=multi_label)
    logits = wide(student) / temperature
    if multi_label:
        per_clip = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none").mean(1)
    else:
        wanted = wanted.to(logits.dtype)
        per_clip = (torch.special.xlogy(wanted, wanted) - wanted * logits.log_softmax(1)).sum(1)
    count = known.sum().clamp(min=1) if n_known is None else n_known
    return temperature**2 * per_clip.masked_fill(~known, 0.0).sum() / count


def soften(logits: Tensor, temperature: float = 1.0, *, multi_label: bool) -> Tensor:
    """Return the teacher's probabilities (B, K) at a temperature, without gradient.

    Mixup mixes these with the weights of the labels, and `distillation_loss(probabilities=True)` takes the result. A
    mixture is known only if every clip in it is.

    Raises:
        ValueError: Logits not (B, K), or T not positive.
    """
    _check_logits(logits, "teacher")
    check_temperature(temperature)
    scaled = wide(logits.detach()) / temperature
    return scaled.sigmoid() if multi_label else scaled.softmax(1)


def _check_logits(logits: Tensor, name: str) -> None:
    if logits.ndim != 2 or 0 in logits.shape or not logits.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point logits (clips, classes), got {logits.dtype} of shape {tuple(logits.shape)}"
        )


def _check_target(student: Tensor, target: Tensor) -> None:
    n_clips, n_classes = student.shape
    is_index = target.ndim == 1 and target.dtype == torch.int64 and len(target) == n_clips
    if not is_index and target.shape != student.shape:
        raise ValueError(
            f"target must be int64 class indices ({n_clips},) or labels ({n_clips}, {n_classes}), "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )
    low, high = target.aminmax()
    if is_index and not bool((low >= 0) & (high < n_classes)):
        raise ValueError(f"target holds class {int(low if low < 0 else high)}, but the student has {n_classes} classes")
    if not is_index and not bool((low >= 0) & (high <= 1)):  # NaN compares as neither
        raise ValueError(f"labels must be from 0 to 1, got {float(low):g} to {float(high):g}")


def _check_teacher(student: Tensor, teacher: Tensor) -> None:
    if teacher.shape != student.shape or not teacher.is_floating_point():
        raise ValueError(
            f"teacher must be floating-point of the student's shape {tuple(student.shape)}, "
            f"got {teacher.dtype} of shape {tuple(teacher.shape)}"
        )


def _check_finite(given: Tensor, probabilities: bool) -> None:
    sound = ((given >= 0) & (given <= 1)) if probabilities else given.isfinite()
    if not bool(sound.all()):
        rows = (~sound).any(1).nonzero()[:, 0].tolist()
        wrong = "not probabilities" if probabilities else "NaN or infinite"
        raise ValueError(
            f"the teacher is {wrong} for clips {', '.join(map(str, rows[:5]))} of the batch: "
            "mark them as not known, or write the teacher's logits again"
        )
