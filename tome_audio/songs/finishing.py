"""What a mixing desk does to a stem: an equaliser, a room, an echo in time, a level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_FFT_STEP = 16384
_EQ_POINTS = 256
_FRAME_SECONDS = 0.05
_SILENT = 1e-4
"""Of the loudest frame's root mean square: quieter frames do not count for a level."""


@dataclass(frozen=True)
class Equaliser:
    """Bumps of (Hz, width in octaves, dB) between a low cut and a high cut in Hz."""

    bumps: tuple[tuple[float, float, float], ...]
    low_cut: float
    high_cut: float

    def gains(self, frequencies: NDArray[Any]) -> NDArray[np.float64]:
        """Return the gain (F,) as a factor at frequencies (F,) in Hz."""
        hertz = np.maximum(frequencies, 1.0)
        decibel = np.zeros_like(hertz)
        for centre, width, height in self.bumps:
            decibel += height * np.exp(-0.5 * (np.log2(hertz / centre) / width) ** 2)
        cuts = (1 + (self.low_cut / hertz) ** 4) * (1 + (hertz / self.high_cut) ** 4)
        gains: NDArray[np.float64] = 10 ** (decibel / 20) / np.sqrt(cuts)
        return gains


def draw_equaliser(rng: np.random.Generator, strength: float, low_cut: float = 20.0) -> Equaliser:
    """Draw up to three bumps of at most `strength` dB, and cuts."""
    bumps = tuple(
        (float(80 * 2 ** rng.uniform(0, 6.2)), float(rng.uniform(0.4, 1.5)), float(rng.uniform(-strength, strength)))
        for _ in range(int(rng.integers(1, 4)))
    )
    return Equaliser(bumps, low_cut, float(rng.uniform(5000, 16000)))


def draw_room(rng: np.random.Generator, sample_rate: int) -> Samples:
    """Draw the response (T,) of a room: noise that dies away, without the direct sound and with an energy of 1."""
    seconds = float(rng.uniform(0.1, 0.9))
    n_samples, delay = int(1.5 * seconds * sample_rate), int(rng.uniform(0.002, 0.03) * sample_rate)
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    noise = rng.standard_normal(n_samples, dtype=np.float32)
    smooth = float(rng.uniform(0.0, 0.6))
    noise[1:] += smooth * noise[:-1]
    room = np.concatenate([np.zeros(delay, np.float32), noise * np.exp(-t * np.float32(6.9 / seconds / 1.5))])
    response: Samples = room / np.sqrt((room**2).sum())
    return response


def finished(
    stem: Samples, equaliser: Equaliser, room: Samples, wet: float, sample_rate: int, echo: tuple[float, float] = (0, 0)
) -> Samples:
    """Return a stem (T,) after its equaliser, with some of the room and of its echo; the tail is cut at T.

    Args:
        stem: Samples.
        equaliser: Of this stem.
        room: See `draw_room`.
        wet: Level of the room.
        sample_rate: In Hz.
        echo: Seconds between echoes and how much of each comes back; (0, 0) for none.
    """
    delay, feedback = echo
    n_echoes = 4 if feedback > 0 else 0
    n_samples = len(stem) + len(room) + int(n_echoes * delay * sample_rate)
    size = -(-n_samples // _FFT_STEP) * _FFT_STEP
    spectrum = np.fft.rfft(stem, size).astype(np.complex64)
    coarse = np.linspace(0, sample_rate / 2, _EQ_POINTS)
    places = np.linspace(0, _EQ_POINTS - 1, len(spectrum))
    spectrum *= np.interp(places, np.arange(_EQ_POINTS), equaliser.gains(coarse)).astype(np.float32)
    response = np.zeros(size, np.float32)
    response[0] = 1
    response[: len(room)] += wet * room
    for turn in range(1, n_echoes + 1):
        response[round(turn * delay * sample_rate)] += feedback**turn
    spectrum *= np.fft.rfft(response).astype(np.complex64)
    out: Samples = np.fft.irfft(spectrum, size)[: len(stem)].astype(np.float32)
    return out


def equalised(samples: Samples, equaliser: Equaliser, sample_rate: int) -> Samples:
    """Return samples (T,) after an equaliser."""
    size = -(-len(samples) // _FFT_STEP) * _FFT_STEP
    spectrum = np.fft.rfft(samples, size) * equaliser.gains(np.fft.rfftfreq(size, 1 / sample_rate))
    out: Samples = np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)
    return out


def loudness(samples: Samples, sample_rate: int) -> float:
    """Return the root mean square of the parts of (T,) that sound; 0 for silence."""
    frame = max(1, int(_FRAME_SECONDS * sample_rate))
    padded = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    power = (padded.astype(np.float64) ** 2).mean(axis=1)
    sounding = power[power > _SILENT**2 * power.max()]
    return float(np.sqrt(sounding.mean())) if len(sounding) else 0.0
