"""Augmentation of features (B, T, F), every sample with its own draw from the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from tome_audio.audio.features import normalise

_AST_NOISE = 0.1
_AST_SHIFTS = (-10, 10)  # the upper end is not drawn


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
    check_features(features)
    n_samples, n_frames, n_bins = features.shape
    _check_widths(features, max_freq=max_freq, max_time=max_time)
    bands = _spans(n_samples, n_bins, max_freq, generator)[:, None, :]
    stretches = _spans(n_samples, n_frames, max_time, generator)[:, :, None]
    return features.masked_fill((bands | stretches).to(features.device), 0.0)


def time_roll(features: Tensor, generator: torch.Generator, max_shift: int) -> Tensor:
    """Roll every sample of (B, T, F) in time by its own shift, uniform on [-max_shift, max_shift] frames.

    Raises:
        ValueError: Features not (B, T, F), or a negative `max_shift`.
    """
    check_features(features)
    if max_shift < 0:
        raise ValueError(f"max_shift must not be negative, got {max_shift}")
    return _roll(features, torch.randint(-max_shift, max_shift + 1, (len(features), 1), generator=generator))


def ast_augment(
    log_mels: Tensor,
    generator: torch.Generator,
    *,
    mean: float,
    std: float,
    freqm: int = 0,
    timem: int = 0,
    noise: bool = False,
) -> Tensor:
    """Turn log-mel features (B, T, F) into training input as AST does: mask with 0, normalise, then add noise.

    The masks come before normalisation, so after it they lie above the mean: AST's weights were trained so.

    Args:
        log_mels: Padded or cut, not yet normalised: `ast_features` with mean 0 and std 0.5.
        generator: On the CPU, whatever device the features are on.
        mean: Of the training features; see `normalise`.
        std: Of the training features.
        freqm: See `ast_spec_augment`.
        timem: See `ast_spec_augment`.
        noise: Whether to add noise and roll in time, as AST does for Speech Commands alone.

    Raises:
        ValueError: Features not (B, T, F), a width out of range, or a `std` that is not positive.
    """
    features = normalise(ast_spec_augment(log_mels, generator, freqm, timem), mean, std)
    return ast_noise_and_roll(features, generator) if noise else features


def ast_spec_augment(features: Tensor, generator: torch.Generator, freqm: int, timem: int) -> Tensor:
    """Mask one band and one stretch per sample of (B, T, F) with 0, drawn as torchaudio draws them for AST.

    Widths are uniform on [0, freqm) bins and [0, timem) frames, so the number itself is never reached. One sample
    gets what torchaudio's FrequencyMasking and then TimeMasking give it from the same generator state.

    Args:
        features: (B, T, F). Left as it is; the result is a new tensor.
        generator: On the CPU, whatever device the features are on.
        freqm: Number of band widths; 0 and 1 mask none.
        timem: Number of stretch widths; 0 and 1 mask none.

    Raises:
        ValueError: Features not (B, T, F), or a number outside 0 to the size of its axis.
    """
    check_features(features)
    _check_widths(features, freqm=freqm, timem=timem)
    draws = torch.rand(len(features), 4, generator=generator)
    bands = _ast_spans(draws[:, :2], features.shape[2], freqm)[:, None, :]
    stretches = _ast_spans(draws[:, 2:], features.shape[1], timem)[:, :, None]
    return features.masked_fill((bands | stretches).to(features.device), 0.0)


def ast_noise_and_roll(features: Tensor, generator: torch.Generator) -> Tensor:
    """Add uniform noise to (B, T, F), its level uniform on [0, 0.1) per sample, and roll by -10 to 9 frames, as AST.

    Raises:
        ValueError: Features not (B, T, F).
    """
    check_features(features)
    n_samples = len(features)
    level = _AST_NOISE * torch.rand(n_samples, 1, 1, generator=generator)
    noise = level * torch.rand(features.shape, generator=generator)
    shift = torch.randint(*_AST_SHIFTS, (n_samples, 1), generator=generator)
    return _roll(features + noise.to(features), shift)


def _roll(features: Tensor, shift: Tensor) -> Tensor:
    # Sample i of (B, T, F) by shift[i, 0] frames.
    n_frames, n_bins = features.shape[1:]
    source = (torch.arange(n_frames) - shift) % n_frames
    return features.gather(1, source[:, :, None].expand(-1, -1, n_bins).to(features.device))


def _spans(n_samples: int, size: int, max_width: int, generator: torch.Generator) -> Tensor:
    # (B, size), true on one random span per sample.
    width = torch.randint(0, max_width + 1, (n_samples, 1), generator=generator)
    start = (torch.rand(n_samples, 1, generator=generator) * (size - width + 1)).long()
    return between(start, start + width, size)


def _ast_spans(draws: Tensor, size: int, n_widths: int) -> Tensor:
    # Draws (B, 2) in [0, 1). The start depends on the width before it is rounded, as in torchaudio.
    width = draws[:, :1] * n_widths
    start = (draws[:, 1:] * (size - width)).long()
    return between(start, start + width.long(), size)


def between(start: Tensor, end: Tensor, size: int) -> Tensor:
    """True from `start` up to and without `end`, both (..., 1), as (..., size)."""
    position = torch.arange(size)
    return (position >= start) & (position < end)


def _check_widths(features: Tensor, **widths: int) -> None:
    # Of frequency first, then of time.
    for (name, value), size in zip(widths.items(), (features.shape[2], features.shape[1]), strict=True):
        if not 0 <= value <= size:
            raise ValueError(f"{name} must be between 0 and {size} for features of this shape, got {value}")


def check_features(features: Tensor) -> None:
    """Refuse features that are not (B, T, F).

    Raises:
        ValueError: Another number of dimensions.
    """
    if features.ndim != 3:
        raise ValueError(f"features must be (B, T, F), got shape {tuple(features.shape)}")
