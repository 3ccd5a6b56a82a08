"""Pitch and tempo of a waveform changed apart from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tome_audio.installation import import_extra

Samples = NDArray[np.float32]

_SAME = 1e-4


def bent(samples: Samples, sample_rate: int, semitones: float, tempo_ratio: float) -> Samples:
    """Return samples (T,) that sound `semitones` higher and `tempo_ratio` times faster, as (T / tempo_ratio,).

    The stretcher is Signalsmith Stretch by way of python-stretch. Its pitch is within a tenth of a semitone of what is
    asked for. With nothing to change the samples come back as they are.

    Args:
        samples: T samples.
        sample_rate: In Hz.
        semitones: Below 0 for lower; at most two octaves either way.
        tempo_ratio: Between 0.25 and 4.

    Raises:
        ValueError: A change out of range.
        ImportError: python-stretch is not installed.
    """
    if not -24 <= semitones <= 24:
        raise ValueError(f"semitones must be between -24 and 24, got {semitones}")
    if not 0.25 <= tempo_ratio <= 4:
        raise ValueError(f"tempo_ratio must be between 0.25 and 4, got {tempo_ratio}")
    if abs(semitones) < _SAME and abs(tempo_ratio - 1) < _SAME:
        return samples.copy()
    stretch = import_extra("python_stretch", "changing the pitch or tempo of a sample", "sampleid").Signalsmith.Stretch(
        0
    )
    stretch.preset(1, sample_rate)
    stretch.setTransposeSemitones(semitones)
    stretch.timeFactor = tempo_ratio
    out: Samples = stretch.process(np.ascontiguousarray(samples, np.float32)[None])[0]
    return out
