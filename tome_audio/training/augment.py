"""Augmentation of normalised features (B, T, F), every sample with its own draw from the generator."""

from __future__ import annotations

import torch
from torch import Tensor


def spec_augment(features: Tensor, generator: torch.Generator, max_freq: int, max_time: int) -> Tensor:
    """Mask one band of mel bins and one stretch of frames per sample of (B, T, F) with 0 (SpecAugment).

    0 is the mean of normalised features. Widths are uniform on [0, max], positions uniform. Written here
    because torchaudio's masking draws from the global random state. Park et al., 2019, arXiv 1904.08779,
    without the time warp.

    Args:
        features: (B, T, F). Left as it is; the result is a new tensor.
        generator: On the CPU, whatever device the features are on.
        max_freq: Widest band, in mel bins; 0 masks none.
        max_time: Widest stretch, in frames; 0 masks none.

    Raises:
        ValueError: Features not (B, T, F), or a maximum outside 0 to the size of its axis.
    """
    _check_3d(features)
    n_samples, n_frames, n_bins = features.shape
    for name, value, size in (("max_freq", max_freq, n_bins), ("max_time", max_time, n_frames)):
        if not 0 <= value <= size:
            raise ValueError(f"{name} must be between 0 and {size} for features of this shape, got {value}")
    bands = _spans(n_samples, n_bins, max_freq, generator)[:, None, :]
    stretches = _spans(n_samples, n_frames, max_time, generator)[:, :, None]
    return features.masked_fill((bands | stretches).to(features.device), 0.0)


def time_roll(features: Tensor, generator: torch.Generator, max_shift: int) -> Tensor:
    """Roll every sample of (B, T, F) in time by its own shift, uniform on [-max_shift, max_shift] frames.

    Raises:
        ValueError: Features not (B, T, F), or a negative `max_shift`.
    """
    _check_3d(features)
    if max_shift < 0:
        raise ValueError(f"max_shift must not be negative, got {max_shift}")
    n_samples, n_frames, n_bins = features.shape
    shift = torch.randint(-max_shift, max_shift + 1, (n_samples, 1), generator=generator)
    source = (torch.arange(n_frames) - shift) % n_frames
    return features.gather(1, source[:, :, None].expand(-1, -1, n_bins).to(features.device))


def _spans(n_samples: int, size: int, max_width: int, generator: torch.Generator) -> Tensor:
    # (B, size), true on one random span per sample.
    width = torch.randint(0, max_width + 1, (n_samples, 1), generator=generator)
    start = (torch.rand(n_samples, 1, generator=generator) * (size - width + 1)).long()
    position = torch.arange(size)
    return (position >= start) & (position < start + width)


def _check_3d(features: Tensor) -> None:
    if features.ndim != 3:
        raise ValueError(f"features must be (B, T, F), got shape {tuple(features.shape)}")
