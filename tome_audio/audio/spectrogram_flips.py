"""What a producer does to a sample, done to its spectrogram: transposed, stretched, looped, equalised, mixed.

Power spectrograms (..., T frames, F bins) on a logarithmic frequency axis. Sounds that are added have their powers
added, which leaves out how their phases meet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def transposed(power: Tensor, semitones: float, bins_per_octave: int) -> Tensor:
    """Move power (..., T, F) up by so many semitones; what comes in at the other end is empty."""
    shift = semitones * bins_per_octave / 12
    whole = math.floor(shift)
    part = shift - whole
    moved = _moved(power, whole)
    return moved if part == 0 else (1 - part) * moved + part * _moved(power, whole + 1)


def stretched(power: Tensor, ratio: float, n_frames: int) -> Tensor:
    """Play power (..., T, F) `ratio` times as fast, (..., n_frames, F); what is missing at the end is empty.

    Raises:
        ValueError: The ratio is not positive, or there is nothing to play.
    """
    if not ratio > 0 or power.shape[-2] == 0:
        raise ValueError(f"the tempo ratio must be positive and the spectrogram not empty, got {ratio}")
    places = torch.arange(n_frames, device=power.device, dtype=torch.float32) * ratio
    before = places.floor().long()
    part = (places - before).to(power.dtype)[:, None]
    padded = F.pad(power, (0, 0, 0, 1))  # one empty frame for all that lies behind the end
    last = power.shape[-2]
    return (1 - part) * padded[..., before.clamp_max(last), :] + part * padded[..., (before + 1).clamp_max(last), :]


def looped(power: Tensor, n_frames: int) -> Tensor:
    """Play power (..., T, F) again and again until there are n_frames."""
    times = -(-n_frames // power.shape[-2])
    return power.repeat(*[1] * (power.ndim - 2), times, 1)[..., :n_frames, :]


def equalised(power: Tensor, gains: Tensor) -> Tensor:
    """Apply gains (K,) in decibels, on K points spread evenly over the bins of power (..., T, F)."""
    curve = F.interpolate(gains[None, None].float(), size=power.shape[-1], mode="linear", align_corners=True)[0, 0]
    return power * (10.0 ** (curve / 10.0)).to(power)


def mixed(front: Tensor, back: Tensor, level: Tensor | float) -> Tensor:
    """Add two sounds (..., T, F), the first `level` decibels (...) louder than the second over the whole window.

    A sound that is silent stays so, and leaves the other alone.
    """
    ratio = 10.0 ** (torch.as_tensor(level, dtype=front.dtype, device=front.device) / 10.0)
    return ratio[..., None, None] * _unit_mean(front) + _unit_mean(back)


def _unit_mean(power: Tensor) -> Tensor:
    mean = power.mean((-2, -1), keepdim=True)
    return power / torch.where(mean > 0, mean, torch.ones_like(mean))


def _moved(power: Tensor, bins: int) -> Tensor:
    n_bins = power.shape[-1]
    if abs(bins) >= n_bins:
        return torch.zeros_like(power)
    kept = power[..., : n_bins - bins] if bins >= 0 else power[..., -bins:]
    return F.pad(kept, (bins, 0) if bins >= 0 else (0, -bins))
