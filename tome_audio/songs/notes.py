"""Parts of pitched instruments: melodies of motifs, basses, chords in rhythm, broken chords; all in beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tome_audio.songs.harmony import Chord, Key, chord_at

STEPS = 4
"""Places for a note in a beat."""


class Note(NamedTuple):
    """A pitch (MIDI, 69 for A4) from `start` for `length` beats; `velocity` is a factor on its amplitude."""

    start: float
    length: float
    pitch: int
    velocity: float


class MotifNote(NamedTuple):
    """A note of a motif: steps from its beginning, steps long, degrees above the motif's own degree."""

    start: int
    length: int
    degree: int
    velocity: float


Motif = tuple[MotifNote, ...]


def draw_onsets(rng: np.random.Generator, n_beats: int, density: float) -> list[int]:
    """Draw the steps of `n_beats` where notes begin, about `density` a beat; beats are likelier than off-beats."""
    steps = np.arange(n_beats * STEPS)
    strength = np.where(steps % STEPS == 0, 1.0, np.where(steps % 2 == 0, rng.uniform(0.3, 1.0), rng.uniform(0, 0.5)))
    strength = strength * rng.uniform(0.3, 1.0, size=len(steps))
    wanted = max(1, min(len(steps), round(density * n_beats)))
    return sorted(np.argsort(-strength)[:wanted].tolist())


def draw_motif(rng: np.random.Generator, n_beats: int, density: float) -> Motif:
    """Draw a rhythm over `n_beats` and a line of steps and a few leaps on it."""
    onsets = draw_onsets(rng, n_beats, density)
    legato = rng.uniform(0.5, 1.0)
    degree, notes = int(rng.integers(-2, 5)), []
    for place, start in enumerate(onsets):
        until = onsets[place + 1] if place + 1 < len(onsets) else n_beats * STEPS
        length = max(1, min(round((until - start) * legato), 2 * STEPS))
        notes.append(MotifNote(start, length, degree, float(rng.uniform(0.65, 1.0))))
        leap = rng.random() < 0.22
        degree += int(rng.choice([-4, -3, 3, 4, 5])) if leap else int(rng.choice([-2, -1, -1, 0, 1, 1, 2]))
        degree = int(np.clip(degree, -5, 9))
    return tuple(notes)


def varied(rng: np.random.Generator, motif: Motif) -> Motif:
    """Return the motif with one change: moved, its end turned, or a note left out."""
    change = int(rng.integers(3))
    if change == 0:
        shift = int(rng.choice([-2, -1, 1, 2]))
        return tuple(note._replace(degree=note.degree + shift) for note in motif)
    if change == 1 or len(motif) < 3:
        turn = int(rng.choice([-3, -2, 2, 3]))
        return (*motif[:-1], motif[-1]._replace(degree=motif[-1].degree + turn))
    left_out = int(rng.integers(1, len(motif)))
    return (*motif[:left_out], *motif[left_out + 1 :])


def melody(rng: np.random.Generator, key: Key, chords: Sequence[Chord], n_beats: int, centre: float) -> list[Note]:
    """Draw a melody of two motifs that come back, changed a little; notes on a beat belong to the chord.

    Args:
        rng: What is drawn from.
        key: Of the song.
        chords: They fill `n_beats`.
        n_beats: Of the section.
        centre: MIDI pitch that the line stays near.
    """
    span = int(rng.choice([2, 4, 4, 8]))
    density = float(rng.uniform(0.7, 2.6))
    motifs = [draw_motif(rng, span, density), draw_motif(rng, span, density * rng.uniform(0.6, 1.3))]
    form = ("AAAB", "AABA", "ABAB", "AABB", "ABAA", "AAAA")[int(rng.integers(6))]
    base = round((centre - 60 - key.root) / 12 * 7)
    rests = rng.random() < 0.3
    notes: list[Note] = []
    for turn in range(-(-n_beats // span)):
        letter = form[turn % len(form)]
        if rests and turn % 4 == 3:
            continue
        motif = motifs["AB".index(letter)]
        if turn >= len(form) or (turn and rng.random() < 0.25):
            motif = varied(rng, motif)
        for note in motif:
            start = turn * span + note.start / STEPS
            if start < n_beats:
                degree = base + note.degree
                if note.start % STEPS == 0:
                    degree = _nearest_chord_tone(chord_at(chords, start), degree)
                pitch = 60 + key.root + key.semitones(degree)
                notes.append(Note(start, note.length / STEPS, pitch, note.velocity))
    return notes


def bass(rng: np.random.Generator, key: Key, chords: Sequence[Chord], n_beats: int, centre: float) -> list[Note]:
    """Draw a bass: one rhythm for the section, roots with fifths, octaves or steps between them."""
    span = int(rng.choice([2, 4, 4]))
    density = float(rng.uniform(0.5, 2.2))
    onsets = sorted({0, *draw_onsets(rng, span, density)})
    figure = [0 if rng.random() < 0.6 else int(rng.choice([4, 7, -3, 2])) for _ in onsets]
    short = float(rng.uniform(0.45, 1.0))
    notes = []
    for turn in range(-(-n_beats // span)):
        for place, step in enumerate(onsets):
            start = turn * span + step / STEPS
            if start >= n_beats:
                break
            until = (onsets[place + 1] if place + 1 < len(onsets) else span * STEPS) / STEPS + turn * span
            own = chord_at(chords, start).degrees[0]
            changes = any(abs(chord.start - start) < 1e-6 for chord in chords)
            octave = 12 * round((centre - key.root - key.semitones(own)) / 12)
            pitch = octave + key.root + key.semitones(own + (0 if changes else figure[place]))
            length = max(0.15, (until - start) * short)
            notes.append(Note(start, length, pitch, float(rng.uniform(0.75, 1.0))))
    return notes


def held_chords(key: Key, chords: Sequence[Chord], centre: float) -> list[Note]:
    """Return every chord held for as long as it lasts."""
    return [Note(chord.start, chord.length, pitch, 0.8) for chord in chords for pitch in chord.pitches(key, centre)]


def chords_in_rhythm(
    rng: np.random.Generator, key: Key, chords: Sequence[Chord], n_beats: int, centre: float
) -> list[Note]:
    """Draw a rhythm of one or two bars and strike the chords in it."""
    span = int(rng.choice([2, 4, 4, 8]))
    onsets = draw_onsets(rng, span, float(rng.uniform(0.4, 1.8)))
    lengths = rng.choice([0.25, 0.5, 0.75, 1.5], size=len(onsets)).tolist()
    accents = rng.uniform(0.6, 1.0, size=len(onsets)).tolist()
    spread = float(rng.choice([0.0, 0.0, 0.02, 0.04]))
    notes = []
    for turn in range(-(-n_beats // span)):
        for step, length, accent in zip(onsets, lengths, accents, strict=True):
            start = turn * span + step / STEPS
            if start < n_beats:
                for place, pitch in enumerate(chord_at(chords, start).pitches(key, centre)):
                    notes.append(Note(start + place * spread, length, pitch, accent))
    return notes


def broken_chords(
    rng: np.random.Generator, key: Key, chords: Sequence[Chord], n_beats: int, centre: float
) -> list[Note]:
    """Draw an order of a chord's tones and play it over and over, with a few places left out."""
    pace = float(rng.choice([0.25, 0.5, 0.5, 1 / 3]))
    order = rng.integers(0, 6, size=int(rng.choice([3, 4, 6, 8]))).tolist()
    if rng.random() < 0.5:
        order = sorted(order)
    sounding = rng.random(len(order)) > 0.15
    length = pace * float(rng.uniform(0.6, 2.5))
    notes, i = [], 0
    while (start := i * pace) < n_beats:
        place = i % len(order)
        if sounding[place]:
            tones = chord_at(chords, start).pitches(key, centre)
            octave, tone = divmod(order[place], len(tones))
            notes.append(Note(start, length, tones[tone] + 12 * octave, 1.0 if place == 0 else 0.75))
        i += 1
    return notes


def _nearest_chord_tone(chord: Chord, degree: int) -> int:
    places = {tone % 7 for tone in chord.degrees}
    return min(range(degree - 3, degree + 4), key=lambda d: (d % 7 not in places, abs(d - degree)))
