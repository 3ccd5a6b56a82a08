"""A generated corpus of ten classes of short sound events in noise, for demos and tests without data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]
Signal = NDArray[np.float64]
Synth = Callable[[np.random.Generator, int, int], Signal]

SNR_DB = (-5.0, 20.0)
"""Range of event power over background power, measured over the length of the event."""
PEAK = (0.05, 0.9)
"""Range of the absolute peak of a finished clip."""


def make_sound_event(label: str, rng: np.random.Generator, sample_rate: int = 16000, seconds: float = 1.0) -> Audio:
    """Make one clip (T,) of class `label`: an event of random pitch, length, onset and level in noise.

    Args:
        label: One of `CLASSES`.
        rng: All randomness comes from here.
        sample_rate: In Hz. The brightest class reaches 7 kHz, so below 16 kHz classes start to alias.
        seconds: Length of the clip. The event takes 35 to 95 % of it.

    Raises:
        ValueError: Unknown label, or a clip shorter than 0.1 seconds.
    """
    if label not in SYNTHS:
        raise ValueError(f"unknown sound event {label!r}: choose one of {', '.join(CLASSES)}")
    n_samples = round(seconds * sample_rate)
    if seconds < 0.1:
        raise ValueError(f"a sound event needs at least 0.1 seconds, got {seconds}")
    length = int(n_samples * rng.uniform(0.35, 0.95))
    onset = int(rng.integers(0, n_samples - length + 1))
    event = _fade(SYNTHS[label](rng, length, sample_rate), sample_rate)
    event /= np.sqrt(np.mean(event**2)) + 1e-12
    clip = _background(rng, n_samples) * 10 ** (-rng.uniform(*SNR_DB) / 20)
    clip[onset : onset + length] += event
    # The level is drawn on a logarithmic scale, as loudness is heard.
    peak = np.exp(rng.uniform(*np.log(PEAK)))
    return np.asarray(clip * (peak / np.abs(clip).max()), dtype=np.float32)


def make_corpus(
    n_per_class: int = 250, seed: int = 0, sample_rate: int = 16000, seconds: float = 1.0
) -> tuple[list[Audio], list[str]]:
    """Make `n_per_class` clips of every class: waveforms (T,) and their labels, class by class in turn.

    Clip i of a class depends on (seed, class, i) alone, so a larger corpus begins with the smaller one.
    Take different seeds for training and testing.

    Raises:
        ValueError: `n_per_class` below 1.
    """
    if n_per_class < 1:
        raise ValueError(f"n_per_class must be at least 1, got {n_per_class}")
    waveforms, labels = [], []
    for i in range(n_per_class):
        for c, label in enumerate(CLASSES):
            rng = np.random.default_rng([seed, c, i])
            waveforms.append(make_sound_event(label, rng, sample_rate, seconds))
            labels.append(label)
    return waveforms, labels


def _fade(event: Signal, sample_rate: int, seconds: float = 0.005) -> Signal:
    # Without it every event starts with the same click.
    n = min(int(seconds * sample_rate), len(event) // 2)
    ramp = np.linspace(0.0, 1.0, n)
    event[:n] *= ramp
    event[len(event) - n :] *= ramp[::-1]
    return event


def _background(rng: np.random.Generator, n: int) -> Signal:
    # Unit-power noise with a power spectrum 1 / f^a, from white (a = 0) to a little over pink (a = 1.2).
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-rng.uniform(0.0, 1.2) / 2)
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(noise / (noise.std() + 1e-12))


def _tone(frequency: Signal, sample_rate: int) -> Signal:
    # A sine whose frequency in Hz is given sample by sample.
    return np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _siren(rng: np.random.Generator, n: int, rate: int) -> Signal:
    centre, depth, speed = _log_uniform(rng, 600, 1400), rng.uniform(0.2, 0.45), rng.uniform(2.5, 5.0)
    time = np.arange(n) / rate
    frequency = centre * (1 + depth * np.sin(2 * np.pi * (speed * time + rng.uniform())))
    return _tone(frequency, rate) + 0.4 * _tone(2 * frequency, rate) + 0.2 * _tone(3 * frequency, rate)


def _sweep(rng: np.random.Generator, n: int, rate: int) -> Signal:
    low, ratio = _log_uniform(rng, 300, 1500), rng.uniform(2.0, 4.5)
    return low * ratio ** np.linspace(0.0, 1.0, n)


def _chirp_up(rng: np.random.Generator, n: int, rate: int) -> Signal:
    return _tone(_sweep(rng, n, rate), rate)


def _chirp_down(rng: np.random.Generator, n: int, rate: int) -> Signal:
    return _tone(_sweep(rng, n, rate)[::-1], rate)


def _bell(rng: np.random.Generator, n: int, rate: int) -> Signal:
    # Partials of a struck bar: not harmonic, the high ones die first.
    time, pitch, decay = np.arange(n) / rate, _log_uniform(rng, 700, 1400), rng.uniform(3.0, 8.0)
    partials = [(1.0, 1.0), (2.76, 0.7), (4.07, 0.5), (5.4, 0.4)]
    event = np.zeros(n)
    for ratio, gain in partials:
        frequency = pitch * ratio * rng.uniform(0.98, 1.02)
        swing = np.sin(2 * np.pi * (frequency * time + rng.uniform()))
        event += gain * np.exp(-decay * np.sqrt(ratio) * time) * swing
    return event


def _clicks(rng: np.random.Generator, n: int, rate: int) -> Signal:
    event, period = np.zeros(n), rate / rng.uniform(8.0, 22.0)
    length = int(0.004 * rate)
    decay = np.exp(-np.arange(length) / (0.001 * rate))
    for start in np.arange(rng.uniform(0.0, 0.5) * period, n - length, period).astype(int):
        event[start : start + length] = rng.standard_normal(length) * decay
    return event


def _noise_burst(rng: np.random.Generator, n: int, rate: int) -> Signal:
    time = np.linspace(0.0, 1.0, n)
    return rng.standard_normal(n) * np.exp(-rng.uniform(1.0, 4.0) * time)


def _engine(rng: np.random.Generator, n: int, rate: int) -> Signal:
    pitch, time = _log_uniform(rng, 45, 110), np.arange(n) / rate
    frequency = pitch * (1 + 0.05 * np.sin(2 * np.pi * (rng.uniform(0.5, 2.0) * time + rng.uniform())))
    harmonics = np.sum([_tone(k * frequency, rate) / k**0.8 for k in range(1, 13)], axis=0)
    return np.asarray(harmonics) * (1 + 0.5 * _tone(frequency / 4, rate))


def _warble(rng: np.random.Generator, n: int, rate: int) -> Signal:
    centre, depth, speed = _log_uniform(rng, 2500, 4500), rng.uniform(0.08, 0.2), rng.uniform(12.0, 28.0)
    time = np.arange(n) / rate
    frequency = centre * (1 + depth * np.sin(2 * np.pi * (speed * time + rng.uniform())))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(3.0, 6.0) * time + rng.uniform()))
    return _tone(frequency, rate) * syllables


def _beeps(rng: np.random.Generator, n: int, rate: int) -> Signal:
    # Two steady tones at once, switched on and off, as telephone keys are.
    low, high = rng.uniform(650, 950), rng.uniform(1200, 1650)
    time = np.arange(n) / rate
    on = ((time * rng.uniform(4.0, 8.0)) % 1.0) < 0.55
    return (np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)) * on


def _pluck(rng: np.random.Generator, n: int, rate: int) -> Signal:
    # Karplus and Strong, 1983: a period of noise, averaged with its neighbour each time it comes round.
    period = int(rate / _log_uniform(rng, 90, 260))
    string, periods = rng.uniform(-1.0, 1.0, period), []
    for _ in range(-(-n // period)):
        periods.append(string)
        string = 0.498 * (string + np.roll(string, 1))
    return np.concatenate(periods)[:n]


SYNTHS: dict[str, Synth] = {
    "siren": _siren,
    "chirp_up": _chirp_up,
    "chirp_down": _chirp_down,
    "bell": _bell,
    "clicks": _clicks,
    "noise_burst": _noise_burst,
    "engine": _engine,
    "warble": _warble,
    "beeps": _beeps,
    "pluck": _pluck,
}
CLASSES = tuple(SYNTHS)
