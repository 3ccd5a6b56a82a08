"""What stands out in a song, small enough to keep: the peaks of its spectrogram, by semitone and tenth of a second."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.audio.vqt import VqtFrontEnd

FRONT_END = VqtFrontEnd()
"""Two of its frames and two of its bins make one of a sketch: 10.4 rows a second, 80 bins of a semitone."""

HOP = 2 * FRONT_END.hop
"""Samples from row to row."""

MARGIN = 1.6
"""Seconds on both sides that a row depends on."""

_FLOOR = 1e-7
_LOUDEST = 20.0
_AROUND = (21, 13)  # rows and bins: two seconds, an octave


def sketch(power: Tensor) -> Tensor:
    """Turn power (T, F) of the front end into a sketch (T // 2, F // 2), uint8.

    Decibels above the mean of the surrounding two seconds and one octave, from 0 (not above it) to 255 (20 dB): what is
    even, such as an equaliser, the room or noise, falls out.

    Raises:
        ValueError: Not power (T, F).
    """
    if power.ndim != 2 or not power.is_floating_point():
        raise ValueError(f"expected power (T, F), got {power.dtype} of shape {tuple(power.shape)}")
    if len(power) < 2:
        return torch.zeros(0, power.shape[1] // 2, dtype=torch.uint8)
    halved = F.avg_pool2d(power[None, None].float(), 2)
    decibels = 10.0 * halved.clamp_min(_FLOOR).log10()
    around = F.avg_pool2d(
        decibels, _AROUND, 1, (_AROUND[0] // 2, _AROUND[1] // 2), count_include_pad=False
    )  # fmt: skip
    above = (decibels - around)[0, 0].clamp(0.0, _LOUDEST)
    return (above * (255.0 / _LOUDEST)).round().to(torch.uint8)
