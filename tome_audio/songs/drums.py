"""Drum kits that are synthesised, and patterns with variations and fills to play on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tome_audio.songs.notes import STEPS

Samples = NDArray[np.float32]


class Hit(NamedTuple):
    """A stroke on a drum at `start` beats; `velocity` is a factor on its amplitude."""

    start: float
    drum: str
    velocity: float


# Kick and snare by step of a bar of four beats. K: kick, S: snare, B: both, a small letter: soft.
_GROOVES = (
    "K.......S.......",
    "K...S...K...S...",
    "K...B...K...B...",
    "K...S..KK...S...",
    "K..K..K.S..K....",
    "K.....K.S.K.....",
    "K..k....S.k..K..",
    "K.K.S..s.sK.S..s",
    "K.K.S..s..KsS...",
    "K.......S..K..K.",
    "K..KS..K.KK.S...",
    "K.....S...K...S.",
    "K..S..K.S...S...",
    "K.......S..K....",
    "K.......K.......",
)
_HATS = (
    "x.x.x.x.x.x.x.x.",
    "xxxxxxxxxxxxxxxx",
    "..x...x...x...x.",
    "x...x...x...x...",
    "x.xxx.xxx.xxx.xx",
    "x..x..x.x..x..x.",
)
_SHAKES = (
    "x.x.x.x.x.x.x.x.",
    "..x...x...x...x.",
    "x..x..x...x.x...",
    "x.xx.xx.x.xx.xx.",
    "...x..x....x..x.",
    "x.....x...x.....",
)


def draw_kit(rng: np.random.Generator, sample_rate: int) -> dict[str, Samples]:
    """Synthesise kick, snare, closed and open hat, tom and crash with parameters of their own, (T,) each."""
    return {
        "kick": _kick(rng, sample_rate),
        "snare": _clap(rng, sample_rate) if rng.random() < 0.25 else _snare(rng, sample_rate),
        "hat": _metal(rng, sample_rate, float(rng.uniform(0.02, 0.08))),
        "open": _metal(rng, sample_rate, float(rng.uniform(0.12, 0.4))),
        "tom": _skin(rng, sample_rate, float(rng.uniform(80, 180)), float(rng.uniform(0.12, 0.35))),
        "crash": _metal(rng, sample_rate, float(rng.uniform(0.6, 1.2))),
    }


def draw_percussion(rng: np.random.Generator, sample_rate: int) -> dict[str, Samples]:
    """Synthesise a shaker, a wood block or cowbell and two hand drums, (T,) each."""
    pitch = float(rng.uniform(160, 340))
    return {
        "shaker": _shaken(rng, sample_rate),
        "wood": _struck(rng, sample_rate),
        "low": _skin(rng, sample_rate, pitch, float(rng.uniform(0.1, 0.3))),
        "high": _skin(rng, sample_rate, pitch * float(rng.uniform(1.25, 1.7)), float(rng.uniform(0.06, 0.2))),
    }


def drum_part(rng: np.random.Generator, n_bars: int, beats_per_bar: int) -> list[Hit]:
    """Draw a groove and a hat, play them with ghost notes and gaps, and fill in before the section ends."""
    steps = beats_per_bar * STEPS
    groove = _GROOVES[int(rng.integers(len(_GROOVES)))][:steps]
    answer, every = _answer(rng, groove), int(rng.choice([2, 2, 4]))
    hats = _HATS[int(rng.integers(len(_HATS)))][:steps]
    softer, on_beat = float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.7, 1.0))
    opens = {int(rng.integers(1, steps)) for _ in range(int(rng.integers(3)))}
    busy, crash, without_hats = float(rng.uniform(0, 0.06)), rng.random() < 0.5, rng.random() < 0.05
    hits = [Hit(0.0, "crash", 0.8)] if crash else []
    for bar in range(n_bars):
        fill_from = steps - int(rng.choice([4, 4, 6, 8])) if bar == n_bars - 1 and rng.random() < 0.7 else steps
        for step in range(steps):
            at = bar * beats_per_bar + step / STEPS
            if step >= fill_from:
                if rng.random() < 0.7:
                    hits.append(Hit(at, "tom" if rng.random() < 0.5 else "snare", float(rng.uniform(0.5, 1.0))))
                continue
            mark = (answer if bar % every == every - 1 else groove)[step]
            if mark in "KkB":
                hits.append(Hit(at, "kick", 0.6 if mark == "k" else 1.0))
            if mark in "SsB":
                hits.append(Hit(at, "snare", 0.35 if mark == "s" else 1.0))
            if mark == "." and rng.random() < busy:
                hits.append(Hit(at, "kick" if rng.random() < 0.4 else "snare", float(rng.uniform(0.2, 0.45))))
            if hats[step] == "x" and not without_hats and rng.random() > 0.04:
                accent = on_beat if step % STEPS == 0 else softer
                hits.append(Hit(at, "open" if step in opens else "hat", 0.6 * accent * float(rng.uniform(0.85, 1.1))))
    return hits


def _answer(rng: np.random.Generator, groove: str) -> str:
    """Return the groove with one to three strokes more or fewer in its second half."""
    marks = list(groove)
    for step in rng.permutation(np.arange(len(marks) // 2, len(marks)))[: int(rng.integers(1, 4))].tolist():
        marks[step] = "kKsS"[int(rng.integers(4))] if marks[step] == "." else "."
    return "".join(marks)


def percussion_part(rng: np.random.Generator, n_bars: int, beats_per_bar: int) -> list[Hit]:
    """Draw one pattern each for two or three drums of the percussion, and play them with small gaps."""
    steps = beats_per_bar * STEPS
    drums = rng.permutation(["shaker", "wood", "low", "high"])[: int(rng.integers(2, 4))].tolist()
    hits = []
    for drum in drums:
        pattern = _SHAKES[int(rng.integers(len(_SHAKES)))]
        turn = int(rng.integers(0, 8)) if drum != "shaker" else 0
        level = float(rng.uniform(0.5, 1.0))
        for bar in range(n_bars):
            for step in range(steps):
                if pattern[(step + turn) % 16] == "x" and rng.random() > 0.06:
                    accent = 1.0 if step % STEPS == 0 else float(rng.uniform(0.5, 0.9))
                    hits.append(Hit(bar * beats_per_bar + step / STEPS, drum, level * accent))
    return hits


def band_noise(rng: np.random.Generator, n_samples: int, low: float, high: float, sample_rate: int) -> Samples:
    """Return noise (T,) between two frequencies in Hz with soft edges and a standard deviation of 1."""
    frequencies = np.fft.rfftfreq(n_samples, 1 / sample_rate)
    edges = 1 / (1 + (low / np.maximum(frequencies, 1.0)) ** 4) / (1 + (frequencies / high) ** 4)
    spectrum = np.fft.rfft(rng.standard_normal(n_samples)) * edges
    noise = np.fft.irfft(spectrum, n_samples)
    shaped: Samples = (noise / max(float(noise.std()), 1e-9)).astype(np.float32)
    return shaped


def _times(seconds: float, sample_rate: int) -> NDArray[np.float64]:
    return np.arange(max(16, int(seconds * sample_rate))) / sample_rate


def _kick(rng: np.random.Generator, sample_rate: int) -> Samples:
    decay = float(rng.uniform(0.06, 0.3))
    t = _times(4 * decay, sample_rate)
    low, sweep, speed = rng.uniform(38, 70), rng.uniform(40, 260), rng.uniform(0.008, 0.05)
    tone = np.sin(2 * np.pi * (low * t + sweep * speed * (1 - np.exp(-t / speed))))
    click = band_noise(rng, len(t), 800, 5000, sample_rate) * np.exp(-t / 0.004) * rng.uniform(0, 0.4)
    body = np.tanh(tone * np.exp(-t / decay) * rng.uniform(1, 4)) + click
    return body.astype(np.float32)


def _snare(rng: np.random.Generator, sample_rate: int) -> Samples:
    decay = float(rng.uniform(0.04, 0.2))
    t = _times(5 * decay, sample_rate)
    tone = np.sin(2 * np.pi * rng.uniform(140, 280) * t) * np.exp(-t / rng.uniform(0.02, 0.1))
    noise = band_noise(rng, len(t), rng.uniform(400, 2000), rng.uniform(3000, 7500), sample_rate)
    return (rng.uniform(0.2, 1.0) * tone + 0.5 * noise * np.exp(-t / decay)).astype(np.float32)


def _clap(rng: np.random.Generator, sample_rate: int) -> Samples:
    t = _times(0.35, sample_rate)
    gap = float(rng.uniform(0.006, 0.014))
    envelope = sum(np.where(t >= i * gap, np.exp(-(t - i * gap).clip(0) / 0.005), 0) for i in range(3))
    tail = np.where(t >= 3 * gap, np.exp(-(t - 3 * gap).clip(0) / rng.uniform(0.03, 0.1)), 0)
    noise = band_noise(rng, len(t), rng.uniform(600, 1200), rng.uniform(1800, 5000), sample_rate)
    return (0.5 * noise * (envelope + tail)).astype(np.float32)


def _metal(rng: np.random.Generator, sample_rate: int, decay: float) -> Samples:
    t = _times(4 * decay, sample_rate)
    noise = band_noise(rng, len(t), rng.uniform(3000, 6000), 0.48 * sample_rate, sample_rate)
    tones = sum(np.sign(np.sin(2 * np.pi * f * t)) for f in rng.uniform(2000, 0.4 * sample_rate, size=4))
    return ((0.4 * noise + rng.uniform(0, 0.15) * tones) * np.exp(-t / decay)).astype(np.float32)


def _skin(rng: np.random.Generator, sample_rate: int, pitch: float, decay: float) -> Samples:
    t = _times(4 * decay, sample_rate)
    bend = rng.uniform(0.05, 0.5) * pitch * 0.03 * (1 - np.exp(-t / 0.03))
    tone = np.sin(2 * np.pi * (pitch * t + bend)) + 0.4 * np.sin(2 * np.pi * 1.59 * pitch * t) * np.exp(-t / 0.05)
    slap = band_noise(rng, len(t), 1000, 4000, sample_rate) * np.exp(-t / 0.006) * rng.uniform(0.1, 0.6)
    return (0.7 * tone * np.exp(-t / decay) + slap).astype(np.float32)


def _shaken(rng: np.random.Generator, sample_rate: int) -> Samples:
    t = _times(0.15, sample_rate)
    rise = float(rng.uniform(0.005, 0.03))
    noise = band_noise(rng, len(t), rng.uniform(2500, 5500), 0.48 * sample_rate, sample_rate)
    return (0.4 * noise * np.minimum(t / rise, 1) * np.exp(-t / rng.uniform(0.02, 0.05))).astype(np.float32)


def _struck(rng: np.random.Generator, sample_rate: int) -> Samples:
    t = _times(0.3, sample_rate)
    pitch, ratio = rng.uniform(400, 1400), rng.uniform(1.4, 2.8)
    tone = np.sin(2 * np.pi * pitch * t) + 0.6 * np.sin(2 * np.pi * ratio * pitch * t)
    return (0.5 * tone * np.exp(-t / rng.uniform(0.015, 0.07))).astype(np.float32)
