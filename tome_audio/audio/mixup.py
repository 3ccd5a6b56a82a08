"""Mixup of waveforms as AST has it: which clips are mixed, with what weight, and the mixing itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class MixupDraw(NamedTuple):
    """For each clip of a batch, the data set's clip to mix in (B,) and the weight (B,) of the clip itself.

    A clip that is not mixed has itself as partner and the weight 1.
    """

    partner: Tensor
    weight: Tensor


def draw_mixup(own: Tensor, n_clips: int, probability: float, generator: torch.Generator, alpha: int = 10) -> MixupDraw:
    """Draw for each clip whether it is mixed, with which of all clips, and its weight from Beta(alpha, alpha).

    Zhang et al., 2018, arXiv 1710.09412; AST (Gong et al., 2021) takes alpha 10 and the partner from the whole set.

    Args:
        own: (B,) int64, the numbers of the batch's clips in the data set.
        n_clips: Clips in the data set.
        probability: Of a clip to be mixed, in [0, 1].
        generator: On the CPU. The same number of values is drawn whatever is mixed.
        alpha: A whole number from 1; 1 is uniform, larger is nearer to one half.

    Raises:
        ValueError: `own` is not (B,) of numbers below `n_clips`, or a setting is out of range.
    """
    if own.ndim != 1 or own.dtype != torch.int64:
        raise ValueError(f"own must be int64 clip numbers (B,), got {own.dtype} of shape {tuple(own.shape)}")
    if len(own) and not (int(own.min()) >= 0 and int(own.max()) < n_clips):
        raise ValueError(f"clip numbers must be 0 to {n_clips - 1}, got {int(own.min())} to {int(own.max())}")
    if not 0 <= probability <= 1:
        raise ValueError(f"the mixup probability must be in [0, 1], got {probability}")
    if alpha < 1:
        raise ValueError(f"alpha must be a whole number from 1, got {alpha}")
    mixed = torch.rand(len(own), generator=generator) < probability
    partner = torch.randint(max(n_clips, 1), (len(own),), generator=generator)
    # The median of 2 alpha - 1 uniform numbers is Beta(alpha, alpha); torch's own Beta takes no generator.
    weight = torch.rand(len(own), 2 * alpha - 1, generator=generator).median(dim=1).values
    return MixupDraw(torch.where(mixed, partner, own), torch.where(mixed, weight, 1.0))


def mix_waveforms(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Mix clips (T,) and (U,) into one of shape (T,) without a mean: weight x first + (1 - weight) x second.

    Each loses its own mean first; then `second` is cut or padded with zeros to the length of `first`, mixed in,
    and the mean of the sum is removed.

    Raises:
        ValueError: A clip is not (T,) with T >= 1, or a weight outside [0, 1].
    """
    for name, clip in (("first", first), ("second", second)):
        if clip.ndim != 1 or len(clip) == 0:
            raise ValueError(f"the {name} clip must be (T,) with T >= 1, got shape {tuple(clip.shape)}")
    _check_weight(weight, weight)
    other = (second - second.mean())[: len(first)]
    mixed = weight * (first - first.mean()) + (1 - weight) * F.pad(other, (0, len(first) - len(other)))
    return mixed - mixed.mean()


def mix_targets(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Mix targets (B, C) by weights (B,): weight x first + (1 - weight) x second.

    For labels and for a teacher's targets alike, with the weights of the waveforms. Give a teacher's probabilities,
    not its logits: a mean of logits is no mean of targets.

    Raises:
        ValueError: Shapes that do not fit, integer targets, or a weight outside [0, 1].
    """
    if first.ndim != 2 or first.shape != second.shape or weight.shape != first.shape[:1]:
        raise ValueError(
            "mix_targets needs targets (B, C), (B, C) and weights (B,), got "
            f"{tuple(first.shape)}, {tuple(second.shape)} and {tuple(weight.shape)}"
        )
    if not (first.is_floating_point() and second.is_floating_point()):
        raise ValueError(f"targets must be floats, got {first.dtype} and {second.dtype}: mixed labels are not whole")
    if len(weight):
        _check_weight(float(weight.min()), float(weight.max()))
    part = weight.to(first)[:, None]
    return part * first + (1 - part) * second


def _check_weight(low: float, high: float) -> None:
    if not 0 <= low <= high <= 1:
        raise ValueError(f"mixup weights must be in [0, 1], got {low if low < 0 else high}")
