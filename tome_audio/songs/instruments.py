"""Pitched instruments: from a timbre and notes to samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tome_audio.songs.notes import Note
from tome_audio.songs.timbres import Timbre

Samples = NDArray[np.float32]

_N_HARMONICS = 28
_MODES = (1.0, 2.76, 5.4, 8.9)
"""Frequencies of a free bar, relative to the lowest (Fletcher and Rossing, The Physics of Musical Instruments)."""
_HIGHEST = 0.46
"""Of the sample rate: no partial above."""


def play(
    timbre: Timbre,
    notes: Sequence[Note],
    seconds_per_beat: float,
    n_samples: int,
    sample_rate: int,
    tuning: float = 0.0,
) -> Samples:
    """Play notes into (T,) with T = `n_samples`; what lies beyond the end is cut.

    Args:
        timbre: Of the instrument.
        notes: In beats from the first sample.
        seconds_per_beat: Of the song.
        n_samples: T.
        sample_rate: In Hz.
        tuning: Semitones above a concert pitch of 440 Hz.
    """
    out = np.zeros(n_samples, np.float32)
    release = max(1, round(timbre.release * sample_rate))
    fade = (np.linspace(1, 0, release, dtype=np.float32)) ** 2
    held = {note.pitch: 0.0 for note in notes}
    for note in notes:
        held[note.pitch] = max(held[note.pitch], note.length)
    # A pitch is synthesised once, as long as its longest note, and cut for the shorter ones, as a sampler does.
    tones: dict[int, Samples] = {}
    for note in notes:
        start = round(note.start * seconds_per_beat * sample_rate)
        if not 0 <= start < n_samples:
            continue
        if note.pitch not in tones:
            longest = round(held[note.pitch] * seconds_per_beat * sample_rate) + release
            tones[note.pitch] = tone(timbre, note.pitch + tuning, min(longest, n_samples), sample_rate)
        body = tones[note.pitch]
        length = min(round(note.length * seconds_per_beat * sample_rate), len(body))
        end = min(start + length, n_samples)
        out[start:end] += note.velocity * body[: end - start]
        tail = min(release, len(body) - length, n_samples - end)
        if tail > 0:
            out[end : end + tail] += note.velocity * body[length : length + tail] * fade[:tail]
    if timbre.drive > 0.05:
        peak = float(np.abs(out).max())
        if peak > 0:
            out = np.tanh(out * ((1 + timbre.drive) / peak))
    return out


def tone(timbre: Timbre, pitch: float, n_samples: int, sample_rate: int) -> Samples:
    """Synthesise one note (T,) of T samples at a MIDI pitch; it is not released."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    frequency = min(frequency, 0.45 * _HIGHEST * sample_rate)
    n_samples = max(n_samples, 16)
    if timbre.engine == "fm":
        wave = _fm(timbre, frequency, n_samples, sample_rate)
    elif timbre.engine == "modes":
        wave = _modes(timbre, frequency, n_samples, sample_rate)
    else:
        wave = _harmonic(timbre, frequency, n_samples, sample_rate)
    t = np.arange(n_samples, dtype=np.float32) / np.float32(sample_rate)
    if timbre.breath > 0.005:
        noise = np.random.default_rng([timbre.phase_seed, round(pitch * 100) % 2**31]).standard_normal(
            n_samples, dtype=np.float32
        )
        wave = wave + timbre.breath * noise * float(np.abs(wave).max())
    level = timbre.sustain + (1 - timbre.sustain) * np.exp(-t / np.float32(timbre.decay))
    rise = min(n_samples, max(1, round(timbre.attack * sample_rate)))
    level[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    return wave * level


def _harmonic(timbre: Timbre, frequency: float, n_samples: int, sample_rate: int) -> Samples:
    """Partials whose levels change from period to period: a wave table per period, read at the exact pitch."""
    n_partials = max(1, min(_N_HARMONICS, int(_HIGHEST * sample_rate / (frequency * 1.03))))
    size = 1 << max(4, math.ceil(math.log2(3 * n_partials)))
    n_periods = math.ceil(n_samples * frequency * 1.04 / sample_rate) + 2
    levels = _partial_levels(timbre, frequency, n_partials, np.arange(n_periods + 1) / frequency)
    phases = np.random.default_rng(timbre.phase_seed).uniform(0, 2 * np.pi, _N_HARMONICS)[:n_partials]
    spectrum = np.zeros((n_periods + 1, size // 2 + 1), np.complex64)
    spectrum[:, 1 : n_partials + 1] = levels * np.exp(1j * phases).astype(np.complex64)
    tables = np.fft.irfft(spectrum, size, axis=1).astype(np.float32) * np.float32(size / 2)
    # From one period's table to the next without a step.
    blend = np.arange(size, dtype=np.float32) / size
    wave: NDArray[Any] = (tables[:-1] * (1 - blend) + tables[1:] * blend).ravel()
    t = np.arange(n_samples) / sample_rate
    turns = frequency * t
    if timbre.vibrato > 1:
        rate = timbre.vibrato_rate
        swing = frequency * (2 ** (timbre.vibrato / 1200) - 1) / (2 * np.pi * rate)
        turns = turns + swing * (1 - np.cos(2 * np.pi * rate * t))
    if timbre.detune <= 1:
        return _read(wave, turns * size)
    apart = 2 ** (timbre.detune / 2400)
    return 0.5 * (_read(wave, turns * (size * apart)) + _read(wave, turns * (size / apart)))


def _partial_levels(timbre: Timbre, frequency: float, n_partials: int, t: NDArray[np.float64]) -> Samples:
    """Levels (M, K) of K partials at M times in seconds."""
    number = np.arange(1, n_partials + 1)
    hertz = number * frequency
    level = number**-timbre.tilt * np.where(number % 2 == 0, timbre.even, 1.0)
    if timbre.pluck > 0:
        level = level * (0.05 + np.abs(np.sin(np.pi * number * timbre.pluck)))
    if timbre.formants:
        level = level * (
            0.25 + sum(gain * np.exp(-0.5 * (np.log2(hertz / f) / width) ** 2) for f, width, gain in timbre.formants)
        )
    cutoff = timbre.cutoff + timbre.sweep * np.exp(-t / timbre.sweep_seconds)
    passed = 1 / (1 + (number / np.maximum(cutoff, 1.0)[:, None]) ** 4)
    # Higher partials of a string die sooner.
    damped = np.exp(-t[:, None] * (timbre.damping * hertz / 1000))
    levels: Samples = (level * passed * damped).astype(np.float32)
    return levels


def _read(wave: Samples, places: NDArray[Any]) -> Samples:
    """Read a table at places between its entries."""
    whole = places.astype(np.int64)
    np.minimum(whole, len(wave) - 2, out=whole)
    part = (places - whole).astype(np.float32)
    left = wave[whole]
    return left + part * (wave[whole + 1] - left)


def _fm(timbre: Timbre, frequency: float, n_samples: int, sample_rate: int) -> Samples:
    t = (np.arange(n_samples) / sample_rate).astype(np.float32)
    # Sidebands that would fold back are kept out by a shallower modulation (Carson's rule).
    ratio = min(timbre.ratio, max(1.0, 0.7 * _HIGHEST * sample_rate / frequency - 1))
    room = (_HIGHEST * sample_rate - frequency) / (ratio * frequency) - 1
    depth = min(timbre.depth, max(0.0, room))
    turn = np.float32(2 * np.pi * frequency) * t
    index = np.float32(depth) * (0.15 + 0.85 * np.exp(-t / np.float32(timbre.sweep_seconds)))
    wave: Samples = np.sin(turn + index * np.sin(np.float32(ratio) * turn))
    return wave


def _modes(timbre: Timbre, frequency: float, n_samples: int, sample_rate: int) -> Samples:
    t = (np.arange(n_samples) / sample_rate).astype(np.float32)
    wave = np.zeros(n_samples, np.float32)
    for place, mode in enumerate(_MODES):
        hertz = frequency * (1 + (mode - 1) * timbre.ratio)
        if hertz < _HIGHEST * sample_rate:
            level = 1.0 if place == 0 else timbre.depth / place
            fall = np.exp(-t / np.float32(timbre.decay / (1 + 1.5 * place)))
            wave += np.float32(level) * fall * np.sin(np.float32(2 * np.pi * hertz) * t)
    return wave
