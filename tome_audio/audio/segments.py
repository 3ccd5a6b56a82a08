"""Clips of any length as pieces of one length."""

from __future__ import annotations

import torch
from torch import Tensor

from tome_audio.audio.clip_checks import checked_clips

_SHORTEST_LAST_PART = 0.1


def segments(waveform: Tensor, length: int, *, legacy_repeat: bool = False) -> Tensor:
    """Cut a clip (T,) into pieces of `length` samples, one after the other: (S, length).

    A clip or a last piece that is shorter is played again and again until the piece is full. A last piece shorter
    than a tenth of `length` is left out when there are others: repeated ten times and more it is a buzz, not the
    sound. The result is a new tensor.

    Args:
        waveform: (T,), of a float dtype.
        length: samples per piece.
        legacy_repeat: fill a piece by repeating every sample instead, which slows it down, as MetaAudio does; then
            every last piece is kept.

    Raises:
        ValueError: `length` below 1, wrong shape, integer dtype, NaN or infinite samples.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1 sample, got {length}")
    (clip,) = checked_clips([waveform])
    pieces = list(clip.split(length))
    if len(pieces) > 1 and len(pieces[-1]) < _SHORTEST_LAST_PART * length and not legacy_repeat:
        pieces.pop()
    times = -(-length // len(pieces[-1]))
    filled = pieces[-1].repeat_interleave(times) if legacy_repeat else pieces[-1].repeat(times)
    return torch.stack([*pieces[:-1], filled[:length]])
