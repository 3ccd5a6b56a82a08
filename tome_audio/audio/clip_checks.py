"""What every function that takes waveforms asks of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def checked_clips(waveforms: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The clips of shape (T_i,) of a sequence or of a (B, T) tensor, as a list, once they are found usable.

    Raises:
        ValueError: no clips, wrong shape, integer dtype, mixed dtypes or devices, NaN or infinite samples.
    """
    if isinstance(waveforms, Tensor) and waveforms.dim() != 2:
        raise ValueError(
            f"a waveform tensor must be (B, T), got shape {tuple(waveforms.shape)}: "
            "give one clip as [waveform], and mix channels down to mono"
        )
    clips = list(waveforms)
    if not clips:
        raise ValueError("no waveforms: give at least one clip")
    first = clips[0]
    for index, clip in enumerate(clips):
        if not isinstance(clip, Tensor) or clip.dim() != 1 or len(clip) == 0:
            got = tuple(clip.shape) if isinstance(clip, Tensor) else type(clip).__name__
            raise ValueError(f"waveform {index} must be a tensor of shape (T,) with T >= 1, got {got}")
        if not clip.dtype.is_floating_point:
            raise ValueError(
                f"waveform {index} must have a float dtype with full scale at 1, got {clip.dtype}: "
                "convert it, for 16-bit integers by waveform.float() / 32768"
            )
        if (clip.dtype, clip.device) != (first.dtype, first.device):
            raise ValueError(
                f"waveform {index} is {clip.dtype} on {clip.device} and waveform 0 is {first.dtype} on "
                f"{first.device}: bring all clips to one dtype and device"
            )
    # One answer for all clips, so that a GPU is waited for once.
    finite = torch.stack([torch.isfinite(clip).all() for clip in clips]).tolist()
    if not all(finite):
        raise ValueError(f"waveform {finite.index(False)} holds NaN or infinite samples: leave that clip out")
    return clips
