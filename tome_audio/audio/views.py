"""SpecAugment views of features (B, T, F): the original, warped in time, masked in time, masked in frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tome_audio.audio.augment import between, check_features


@dataclass(frozen=True)
class SpecViews:
    """Four views of every clip: original, time-warped, time-masked and frequency-masked, one change each.

    After Park et al., 2019, arXiv 1904.08779.

    Args:
        mask_param: widest mask, in frames for time and in mel bins for frequency.
        p: largest part of the frames that one time mask may cover, in [0, 1]; not a probability.
        num_mask: masks in a masked view.
        W: furthest warp, in frames; 0 warps nothing.
        mask_value: what masks are filled with; 0 is the mean of standardised features.
        shared: draw the masks once for all clips of a batch; otherwise every clip has its own. The warp is always
            a clip's own.

    Raises:
        ValueError: a setting out of range.
    """

    mask_param: int
    p: float
    num_mask: int
    W: int
    mask_value: float = 0.0
    shared: bool = True

    def __post_init__(self) -> None:
        for name, least in (("mask_param", 1), ("num_mask", 1), ("W", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        _check_part("p", self.p)

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Views (B, 4, T, F) of standardised features (B, T, F), which stay as they are.

        Args:
            features: (B, T, F), on any device.
            generator: on the CPU, whatever device the features are on.

        Raises:
            ValueError: features that are not (B, T, F), or with too few frames or mel bins for the settings.
        """
        warped = time_warp(features, generator, self.W)
        drawn: dict[str, Any] = {"n_masks": self.num_mask, "mask_value": self.mask_value, "shared": self.shared}
        in_time = time_masks(features, generator, self.mask_param, self.p, **drawn)
        in_frequency = frequency_masks(features, generator, self.mask_param, **drawn)
        return torch.stack([features, warped, in_time, in_frequency], dim=1)


def time_warp(features: Tensor, generator: torch.Generator, max_warp: int) -> Tensor:
    """Move one frame of every clip of (B, T, F) in time, and the frames around it with it; the two ends stay.

    The frame is uniform on [max_warp, T - max_warp), its shift uniform on [-max_warp, max_warp), both whole frames,
    each clip with its own. Through the three fixed points goes a cubic Hermite curve, whose slope in the middle is
    limited so that time never runs backwards; frames are interpolated linearly.

    Args:
        features: (B, T, F). Left as it is; the result is a new tensor.
        generator: on the CPU.
        max_warp: in frames; 0 warps nothing.

    Raises:
        ValueError: features that are not (B, T, F), or not more than 2 max_warp frames.
    """
    check_features(features)
    n_clips, n_frames, n_bins = features.shape
    if max_warp < 0:
        raise ValueError(f"the warp must not be negative, got {max_warp}")
    if n_frames <= 2 * max_warp:
        raise ValueError(
            f"a warp of {max_warp} frames needs more than {2 * max_warp} frames, got {n_frames}: "
            f"use at most {(n_frames - 1) // 2}"
        )
    if max_warp == 0:
        return features.clone()
    source = torch.randint(max_warp, n_frames - max_warp, (n_clips,), generator=generator)
    shift = torch.randint(-max_warp, max_warp, (n_clips,), generator=generator)
    # Frame 0 has a place already, so what would land on it lands beside it.
    position = _warped_positions(source, (source + shift).clamp(min=1), n_frames)
    before = position.floor().clamp(0, max(n_frames - 2, 0))
    weight = (position - before)[:, :, None].to(features)
    index = before.long()[:, :, None].expand(-1, -1, n_bins).to(features.device)
    return torch.lerp(features.gather(1, index), features.gather(1, index + 1), weight)


def time_masks(
    features: Tensor,
    generator: torch.Generator,
    max_width: int,
    max_part: float,
    *,
    n_masks: int = 1,
    mask_value: float = 0.0,
    shared: bool = True,
) -> Tensor:
    """Fill stretches of frames of (B, T, F), each 1 to `max_width` frames long but no more than int(max_part T).

    Args:
        features: (B, T, F). Left as it is; the result is a new tensor.
        generator: on the CPU.
        max_width: in frames.
        max_part: largest part of the frames that one mask may cover, in [0, 1].
        n_masks: stretches per clip; they may overlap.
        mask_value: what they are filled with.
        shared: draw once for all clips; otherwise every clip has its own.

    Raises:
        ValueError: features that are not (B, T, F), or a setting out of range.
    """
    check_features(features)
    _check_part("max_part", max_part)
    n_clips, n_frames, _ = features.shape
    most = int(max_part * n_frames)
    masked = _masks(1 if shared else n_clips, n_frames, max_width, most, n_masks, generator)
    return features.masked_fill(masked[:, :, None].to(features.device), mask_value)


def frequency_masks(
    features: Tensor,
    generator: torch.Generator,
    max_width: int,
    *,
    n_masks: int = 1,
    mask_value: float = 0.0,
    shared: bool = True,
) -> Tensor:
    """Fill bands of mel bins of (B, T, F), each 1 to `max_width` bins wide; the rest is as in `time_masks`.

    Raises:
        ValueError: features that are not (B, T, F), or a setting out of range.
    """
    check_features(features)
    n_clips, _, n_bins = features.shape
    if max_width > n_bins:
        raise ValueError(f"max_width must be at most the {n_bins} mel bins of these features, got {max_width}")
    masked = _masks(1 if shared else n_clips, n_bins, max_width, n_bins, n_masks, generator)
    return features.masked_fill(masked[:, None, :].to(features.device), mask_value)


def _warped_positions(source: Tensor, target: Tensor, n_frames: int) -> Tensor:
    """(B, T): from which frame, in fractions, each new frame comes, if frame `source` (B,) goes to `target` (B,)."""
    source, target = source[:, None].double(), target[:, None].double()
    frame = torch.arange(n_frames, dtype=torch.float64)
    end = n_frames - 1
    rises = source / target, (end - source) / (end - target)
    # At most three times either rise keeps a cubic from turning back (Fritsch and Carlson, 1980).
    middle = torch.minimum((rises[0] + rises[1]) / 2, 3 * torch.minimum(*rises))
    left = _hermite(frame / target, torch.zeros_like(source), source, rises[0] * target, middle * target)
    span = end - target
    right = _hermite((frame - target) / span, source, torch.full_like(source, end), middle * span, rises[1] * span)
    return torch.where(frame <= target, left, right).clamp(0, end)


def _hermite(at: Tensor, start: Tensor, end: Tensor, start_slope: Tensor, end_slope: Tensor) -> Tensor:
    # The cubic on [0, 1] with these values and slopes at its ends.
    rest = 1 - at
    return rest**2 * (start * (1 + 2 * at) + start_slope * at) + at**2 * (end * (1 + 2 * rest) - end_slope * rest)


def _masks(n_rows: int, size: int, max_width: int, most: int, n_masks: int, generator: torch.Generator) -> Tensor:
    # (n_rows, size), true on n_masks spans of 1 to max_width, cut to `most`.
    if max_width < 1 or n_masks < 1:
        raise ValueError(f"max_width and n_masks must be at least 1, got {max_width} and {n_masks}")
    width = torch.randint(1, max_width + 1, (n_rows, n_masks, 1), generator=generator).clamp(max=most)
    start = (torch.rand(n_rows, n_masks, 1, generator=generator) * (size - width + 1)).long()
    return between(start, start + width, size).any(dim=1)


def _check_part(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a part of the frames in [0, 1], got {value}")
