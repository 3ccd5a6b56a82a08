"""Scores of few-shot tasks: means with intervals, clips answered by the vote of their segments, confusion."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from tome_audio.installation import import_extra

Ties = Literal["first", "min_label", "max_posterior"]
"""Which of the labels with most votes wins: the one seen first, the smallest, or that of the surest segment."""


class MeanInterval(NamedTuple):
    """A mean over `n` values and half the width of its 95 % interval, NaN for a single value."""

    mean: float
    half_width: float
    n: int


def mean_and_interval(values: Tensor) -> MeanInterval:
    """Return the mean of values (n,) and 1.96 standard deviations (of n - 1) over the root of n, in float64.

    Raises:
        ValueError: Not one axis, no value, or a value that is not finite.
    """
    if values.ndim != 1 or len(values) == 0 or values.is_complex():
        raise ValueError(f"values must be at least one number (n,), got {values.dtype} of shape {tuple(values.shape)}")
    values = values.detach().cpu().double()
    if not bool(values.isfinite().all()):
        raise ValueError(f"{int((~values.isfinite()).sum())} of {len(values)} values are NaN or infinite")
    n = len(values)
    half_width = 1.96 * values.std().item() / n**0.5 if n > 1 else float("nan")
    return MeanInterval(values.mean().item(), half_width, n)


def majority_vote(labels: Tensor, scores: Tensor, clip: Tensor, n_clips: int, ties: Ties = "first") -> Tensor:
    """Return the label that most segments of each clip were given, int64 (n_clips,).

    Args:
        labels: Class of each segment (S,), int64 from 0 to N - 1.
        scores: Logits of each segment (S, N), larger is surer; only "max_posterior" looks at them.
        clip: Which clip each segment is of (S,), int64 from 0 to n_clips - 1, in any order.
        n_clips: Number of clips, each with at least one segment.
        ties: Among labels with equally many votes, "first" takes the one whose segment comes first, "min_label" the
            smallest, "max_posterior" the one with the segment of the largest score over all classes (the smallest of
            them where scores are equal).

    Raises:
        ValueError: Wrong shapes or dtypes, labels or clips out of range, NaN scores, a clip without segments, or an
            unknown rule.
    """
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be one of {', '.join(get_args(Ties))}, got {ties!r}")
    _check_segments(labels, scores, clip, n_clips)
    n_segments, n_classes = scores.shape
    cells, shape = clip * n_classes + labels, (n_clips, n_classes)
    counts = cells.bincount(minlength=n_clips * n_classes).reshape(shape)
    tied = counts == counts.amax(1, keepdim=True)
    if ties == "max_posterior":
        surest = scores.new_full((n_clips * n_classes,), -torch.inf)
        surest = surest.scatter_reduce(0, cells, scores.amax(1), "amax").reshape(shape).masked_fill(~tied, -torch.inf)
        tied = tied & (surest == surest.amax(1, keepdim=True))
    if ties == "first":
        order = torch.arange(n_segments, device=labels.device)
        seen = order.new_full((n_clips * n_classes,), n_segments).scatter_reduce(0, cells, order, "amin")
        return seen.reshape(shape).masked_fill(~tied, n_segments).argmin(1)
    classes = torch.arange(n_classes, device=labels.device).expand(shape)
    return classes.masked_fill(~tied, n_classes).amin(1)


def confusion_counts(truth: Tensor, answer: Tensor, n_classes: int) -> Tensor:
    """Return how often clips of class i were answered with class j, int64 (n_classes, n_classes) on the CPU.

    Args:
        truth: Class indices (B,).
        answer: Class indices (B,).
        n_classes: Number of classes, at least 2.

    Raises:
        ValueError: Wrong shapes or dtypes, a single class, or a class out of range.
        ImportError: torchmetrics is absent.
    """
    if n_classes < 2:
        raise ValueError(f"confusion is between at least 2 classes, got {n_classes}")
    for name, values in (("truth", truth), ("answer", answer)):
        if values.ndim != 1 or values.dtype != torch.int64 or len(values) != len(truth):
            raise ValueError(
                f"{name} must be int64 class indices ({len(truth)},), got {values.dtype} of shape {tuple(values.shape)}"
            )
        _check_range(values, n_classes, name)
    if len(truth) == 0:
        return torch.zeros(n_classes, n_classes, dtype=torch.int64)
    classification = import_extra("torchmetrics.functional.classification", "few-shot scores", "fewshot")
    counts: Tensor = classification.multiclass_confusion_matrix(answer.cpu(), truth.cpu(), num_classes=n_classes)
    return counts.long()


def _check_segments(labels: Tensor, scores: Tensor, clip: Tensor, n_clips: int) -> None:
    n_segments = len(labels) if labels.ndim else 0
    if scores.ndim != 2 or 0 in scores.shape or len(scores) != n_segments or not scores.is_floating_point():
        raise ValueError(
            "scores must be floating-point (segments, classes) with one row per label, "
            f"got {scores.dtype} of shape {tuple(scores.shape)} for labels of shape {tuple(labels.shape)}"
        )
    if bool(scores.isnan().any()):
        raise ValueError("scores hold NaN: the model's output is not usable")
    for name, values, end in (("labels", labels, scores.shape[1]), ("clip", clip, n_clips)):
        if values.shape != (n_segments,) or values.dtype != torch.int64:
            raise ValueError(
                f"{name} must be int64 ({n_segments},), one per segment, got {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        _check_range(values, end, name)
    silent = (clip.bincount(minlength=n_clips) == 0).nonzero()[:, 0].tolist()
    if silent:
        raise ValueError(f"clips {', '.join(map(str, silent[:5]))} have no segment: every clip needs at least one")


def _check_range(values: Tensor, end: int, name: str) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < end:
        raise ValueError(f"{name} must be from 0 to {end - 1}, got {int(values.min())} to {int(values.max())}")
