"""Keys, chords and chord progressions of a song, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
}
_SCALE_WEIGHTS = (5.0, 5.0, 3.0, 2.5, 1.0, 1.0, 1.0, 1.0)

_ROOTS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_COLOURS: tuple[tuple[int, ...], ...] = (
    (0, 2, 4),
    (0, 2, 4, 6),
    (0, 2, 4, 8),
    (0, 1, 4),
    (0, 3, 4),
    (0, 4, 7),
    (0, 2, 4, 5),
    (0, 2, 4, 6, 8),
)
"""Degrees of a chord above its own: triad, seventh, added ninth, both suspensions, open fifth, sixth, ninth."""
_COLOUR_WEIGHTS = (5.0, 4.0, 2.0, 1.0, 1.0, 1.5, 1.0, 1.5)

_WELL_WORN: tuple[tuple[int, ...], ...] = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 3),
    (1, 4, 0, 5),
    (0, 6, 5, 6),
    (0, 2, 3, 4),
    (0, 5, 1, 4),
    (3, 4, 2, 5),
    (0, 6, 3, 4),
    (0, 3),
    (0, 1),
    (0, 6),
    (5, 4, 3, 4),
)


@dataclass(frozen=True)
class Key:
    """A scale on a root; `root` is a pitch class, 0 for C, and `scale` a name in `SCALES`."""

    root: int
    scale: str

    @property
    def name(self) -> str:
        """Root and scale for people to read, such as C minor."""
        return f"{_ROOTS[self.root]} {self.scale}"

    def semitones(self, degree: int) -> int:
        """Return how far a degree of the scale, 0 for the root itself, lies above the root."""
        octave, place = divmod(degree, 7)
        return 12 * octave + SCALES[self.scale][place]


@dataclass(frozen=True)
class Chord:
    """Degrees of the scale that sound together from `start` for `length` beats; the first is the chord's own."""

    start: float
    length: float
    degrees: tuple[int, ...]

    def pitches(self, key: Key, centre: float) -> list[int]:
        """Return every tone as the MIDI pitch nearest to `centre`, in rising order: chords lead smoothly."""
        found = set()
        for degree in self.degrees:
            tone = key.root + key.semitones(degree)
            found.add(tone + 12 * round((centre - tone) / 12))
        return sorted(found)


def draw_key(rng: np.random.Generator) -> Key:
    """Draw a root and a scale; major and minor come most often."""
    weights = np.array(_SCALE_WEIGHTS)
    scale = list(SCALES)[int(rng.choice(len(SCALES), p=weights / weights.sum()))]
    return Key(int(rng.integers(12)), scale)


def draw_progression(rng: np.random.Generator, n_beats: int, beats_per_bar: int) -> tuple[Chord, ...]:
    """Draw chords that fill `n_beats`: a well-worn progression or a walk, one rhythm of changes, two colours."""
    if rng.random() < 0.5:
        degrees: Sequence[int] = _WELL_WORN[int(rng.integers(len(_WELL_WORN)))]
        turn = int(rng.integers(len(degrees)))
        degrees = (*degrees[turn:], *degrees[:turn])
    else:
        degrees = _walk(rng, int(rng.integers(2, 7)))
    weights = np.array(_COLOUR_WEIGHTS)
    colours = rng.choice(len(_COLOURS), size=2, p=weights / weights.sum())
    by_degree = {degree: _COLOURS[int(colours[int(rng.random() < 0.35)])] for degree in degrees}
    bar = float(beats_per_bar)
    changes = [(bar,), (bar,), (bar / 2, bar / 2), (2 * bar,), (bar - 0.5, bar + 0.5), (bar / 2 - 0.5, bar / 2 + 0.5)]
    lengths = changes[int(rng.integers(len(changes)))]
    chords, start, i = [], 0.0, 0
    while start < n_beats:
        length = min(lengths[i % len(lengths)], n_beats - start)
        own = degrees[i % len(degrees)]
        chords.append(Chord(start, length, tuple(own + step for step in by_degree[own])))
        start, i = start + length, i + 1
    return tuple(chords)


def chord_at(chords: Sequence[Chord], beat: float) -> Chord:
    """Return the chord that sounds at a beat; the last one after the end."""
    return next((chord for chord in chords if beat < chord.start + chord.length - 1e-6), chords[-1])


def _walk(rng: np.random.Generator, n_chords: int) -> list[int]:
    """Chords that move by a fourth, a fifth, a third or a step, none twice in a row."""
    degrees = [int(rng.choice([0, 0, 0, 5, 3, 1]))]
    while len(degrees) < n_chords:
        step = int(rng.choice([3, 4, 2, 5, 1, 6], p=[0.28, 0.22, 0.12, 0.14, 0.12, 0.12]))
        degrees.append((degrees[-1] + step) % 7)
    return degrees
