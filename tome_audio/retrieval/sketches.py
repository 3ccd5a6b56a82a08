"""The sketch of an audio file of any length, made while it is read."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from tome_audio.audio.sketch import FRONT_END, HOP, MARGIN, sketch
from tome_audio.audio.streaming import stream_audio
from tome_audio.retrieval.windows import stream_frames

ROWS_PER_SECOND = FRONT_END.sample_rate / HOP
_BLOCK = 600  # rows: a minute


@dataclass(frozen=True)
class _Sketched:
    """Sketches as the frames of a file."""

    sample_rate: int = FRONT_END.sample_rate
    frame_hop: int = HOP
    margin: float = MARGIN
    window: float = 1.0

    def frames(self, waveform: Tensor) -> Tensor:
        return sketch(FRONT_END.power(waveform))


def sketch_file(path: str | os.PathLike[str]) -> Tensor:
    """Return the sketch (T, F) of an audio file, uint8; row i is about second i / `ROWS_PER_SECOND`.

    Raises:
        AudioError: The file cannot be used.
        ImportError: librosa is absent.
    """
    pieces = stream_frames(stream_audio(path, FRONT_END.sample_rate), _Sketched(), _BLOCK)
    return torch.cat([piece.values for piece in pieces])
