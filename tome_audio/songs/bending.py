"""Pitch and tempo of a waveform changed apart from each other."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from tome_audio.installation import import_extra

Samples = NDArray[np.float32]

_SAME = 1e-4


def bent(samples: Samples, sample_rate: int, semitones: float, tempo_ratio: float) -> Samples:
    """Return samples (T,) that sound `semitones` higher and `tempo_ratio` times faster, as (T / tempo_ratio,).

    Signalsmith Stretch changes the tempo, then resampling changes both: its own transposition is off by up to half a
    semitone in the bass, this is exact. With nothing to change the samples come back as they are.

    Args:
        samples: T samples.
        sample_rate: In Hz.
        semitones: Below 0 for lower.
        tempo_ratio: Above 1 for faster.

    Raises:
        ValueError: See `check_bend`.
        ImportError: python-stretch or soxr is not installed.
    """
    check_bend(semitones, tempo_ratio)
    speed = 2 ** (semitones / 12)
    out = samples.astype(np.float32)
    if abs(tempo_ratio / speed - 1) > _SAME:
        stretch = _library("python_stretch").Signalsmith.Stretch(0)
        stretch.preset(1, sample_rate)
        stretch.timeFactor = tempo_ratio / speed
        out = stretch.process(out[None])[0]
    if abs(speed - 1) > _SAME:
        out = _library("soxr").resample(out, sample_rate * speed, sample_rate)
    n_samples = round(len(samples) / tempo_ratio)
    whole: Samples = np.pad(out[:n_samples], (0, max(0, n_samples - len(out))))
    return whole


def check_installed() -> None:
    """Raise an error where pitch and tempo cannot be changed here.

    Raises:
        ImportError: python-stretch or soxr is not installed.
    """
    _library("python_stretch")
    _library("soxr")


def check_bend(semitones: float, tempo_ratio: float) -> None:
    """Raise an error where a change is more than an octave, twice or half the tempo, or 2.5 times for both together.

    Raises:
        ValueError: A change out of range.
    """
    if not -12 <= semitones <= 12:
        raise ValueError(f"semitones must be between -12 and 12, got {semitones}")
    if not 0.5 <= tempo_ratio <= 2:
        raise ValueError(f"tempo_ratio must be between 0.5 and 2, got {tempo_ratio}")
    if not 0.4 <= tempo_ratio / 2 ** (semitones / 12) <= 2.5:
        raise ValueError(
            f"{semitones} semitones at {tempo_ratio} times the tempo are a stretch by more than 2.5: take less of one"
        )


def _library(module: str) -> ModuleType:
    return import_extra(module, "changing the pitch or tempo of a sample", "sampleid")
