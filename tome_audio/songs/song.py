"""A song of four to six stems, drawn: its tempo, key, harmony, melodies, rhythm, instruments and mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tome_audio.songs.arrangement import ROLES, draw_arrangement, draw_line_up, swung
from tome_audio.songs.drums import Hit, draw_kit, draw_percussion
from tome_audio.songs.finishing import draw_equaliser, draw_room, finished, loudness
from tome_audio.songs.harmony import Chord, Key, draw_key
from tome_audio.songs.instruments import play
from tome_audio.songs.notes import Note
from tome_audio.songs.timbres import Timbre, draw_timbre

Samples = NDArray[np.float32]

TEMPI = (70.0, 160.0)
"""Slowest and fastest, in beats per minute."""
_PEAK = 0.9


@dataclass(frozen=True)
class Song:
    """Stems that sum to a song without clipping, and what they play.

    Attributes:
        stems: Samples (T,) by role, in the order of `ROLES`.
        sample_rate: In Hz.
        tempo: In beats per minute.
        key: Of all parts.
        tuning: Semitones above a concert pitch of 440 Hz.
        beats_per_bar: 3 or 4.
        first_bar: Where the first whole bar begins, in seconds.
        swing: How late off-beats come, as a part of the step between; 0 where they are straight.
        instruments: Timbre by role; drums and percussion have none.
        chords: In beats from `first_bar`; those of the bar before it are negative.
    """

    stems: Mapping[str, Samples]
    sample_rate: int
    tempo: float
    key: Key
    tuning: float
    beats_per_bar: int
    first_bar: float
    swing: float
    instruments: Mapping[str, Timbre]
    chords: tuple[Chord, ...]

    @property
    def seconds(self) -> float:
        """The length of every stem."""
        return len(next(iter(self.stems.values()))) / self.sample_rate

    def mix(self) -> Samples:
        """Return the sum (T,) of the stems."""
        total: Samples = np.sum(list(self.stems.values()), axis=0, dtype=np.float32)
        return total


def make_song(
    rng: np.random.Generator,
    seconds: float,
    sample_rate: int = 16000,
    *,
    tempo: float | None = None,
    key: Key | None = None,
    tuning: float | None = None,
) -> Song:
    """Draw a song; it begins somewhere in a bar and breaks off after `seconds`.

    Args:
        rng: All that is drawn comes from it.
        seconds: Length of the stems.
        sample_rate: In Hz.
        tempo: In beats per minute; None draws one from `TEMPI`.
        key: None draws one.
        tuning: Semitones above a concert pitch of 440 Hz; None draws up to half a semitone either way.

    Raises:
        ValueError: Length, rate or tempo out of range.
    """
    if not 0.1 <= seconds <= 3600:
        raise ValueError(f"seconds must be between 0.1 and 3600 for a song, got {seconds}")
    if not 8000 <= sample_rate <= 96000:
        raise ValueError(f"sample_rate must be between 8000 and 96000 Hz for a song, got {sample_rate}")
    if tempo is not None and not 30 <= tempo <= 300:
        raise ValueError(f"tempo must be between 30 and 300 beats per minute, got {tempo}")
    tempo = float(rng.uniform(*TEMPI)) if tempo is None else float(tempo)
    key = draw_key(rng) if key is None else key
    tuning = float(rng.uniform(-0.5, 0.5)) if tuning is None else float(tuning)
    roles = draw_line_up(rng)
    beat = 60 / tempo
    beats_per_bar = 3 if rng.random() < 0.12 else 4
    bar = beats_per_bar * beat
    lead_in = float(rng.uniform(0, bar))
    arrangement = draw_arrangement(rng, key, roles, int(np.ceil((lead_in + seconds) / bar)), beats_per_bar)
    n_samples, skipped = round(seconds * sample_rate), round(lead_in * sample_rate)
    instruments = _draw_instruments(rng, roles)
    swing, timing = _Timing.drawn(rng, beat)
    stems = {}
    for role in roles:
        if role in arrangement.hits:
            kit = draw_kit(rng, sample_rate) if role == "drums" else draw_percussion(rng, sample_rate)
            stem = _strike(kit, timing.hits(rng, arrangement.hits[role]), beat, skipped + n_samples, sample_rate)
        else:
            notes = timing.notes(rng, arrangement.notes[role])
            stem = play(instruments[role], notes, beat, skipped + n_samples, sample_rate, tuning)
        stems[role] = stem
    stems = {role: stem[skipped:] for role, stem in _mixed(rng, stems, beat, sample_rate).items()}
    chords = tuple(Chord(chord.start - beats_per_bar, chord.length, chord.degrees) for chord in arrangement.chords)
    return Song(stems, sample_rate, tempo, key, tuning, beats_per_bar, bar - lead_in, swing, instruments, chords)


@dataclass(frozen=True)
class _Timing:
    """Swing, and how loosely it is played."""

    swing: float
    steps: int
    looseness: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, beat: float) -> tuple[float, _Timing]:
        swing = float(rng.uniform(0.08, 0.34)) if rng.random() < 0.4 else 0.0
        steps = int(rng.choice([1, 2])) if beat < 0.6 else 1
        return swing, cls(swing, steps, float(rng.uniform(0.0, 0.008)) / beat)

    def at(self, rng: np.random.Generator, start: float) -> float:
        return max(0.0, swung(start, self.swing, self.steps) + float(rng.normal(0, self.looseness)))

    def notes(self, rng: np.random.Generator, notes: Sequence[Note]) -> list[Note]:
        return [note._replace(start=self.at(rng, note.start)) for note in notes]

    def hits(self, rng: np.random.Generator, hits: Sequence[Hit]) -> list[Hit]:
        return [hit._replace(start=self.at(rng, hit.start)) for hit in hits]


def _draw_instruments(rng: np.random.Generator, roles: Sequence[str]) -> dict[str, Timbre]:
    """A timbre for every pitched role, no family twice where it can be helped."""
    instruments: dict[str, Timbre] = {}
    for role in roles:
        families = ROLES[role].families
        if families:
            taken = {timbre.family for timbre in instruments.values()}
            free = [family for family in families if family not in taken] or list(families)
            instruments[role] = draw_timbre(rng, free[int(rng.integers(len(free)))])
    return instruments


def _strike(
    kit: Mapping[str, Samples], hits: Sequence[Hit], seconds_per_beat: float, n_samples: int, sample_rate: int
) -> Samples:
    out = np.zeros(n_samples, np.float32)
    for hit in hits:
        start = round(hit.start * seconds_per_beat * sample_rate)
        if start < n_samples:
            sound = kit[hit.drum][: n_samples - start]
            out[start : start + len(sound)] += hit.velocity * sound
    return out


def _mixed(rng: np.random.Generator, stems: Mapping[str, Samples], beat: float, sample_rate: int) -> dict[str, Samples]:
    """Stems at their levels in one room; their sum peaks below full scale, by how much is drawn."""
    room, dry = draw_room(rng, sample_rate), float(rng.uniform(0.2, 1.0))
    mixed = {}
    for role, stem in stems.items():
        equaliser = draw_equaliser(rng, 8.0, ROLES[role].low_cut)
        wet = float(rng.uniform(0, 0.15 if role in ("bass", "drums") else 0.6)) * dry
        echoes = role in ("melody", "counter", "arpeggio") and rng.random() < 0.3
        echo = (beat * float(rng.choice([0.5, 0.75, 1.0])), float(rng.uniform(0.15, 0.45))) if echoes else (0.0, 0.0)
        out = finished(stem, equaliser, room, wet, sample_rate, echo)
        gain = 10 ** ((ROLES[role].level_db + float(rng.normal(0, 2))) / 20)
        mixed[role] = out * (gain / max(loudness(out, sample_rate), 1e-9))
    peak = float(np.abs(np.sum(list(mixed.values()), axis=0)).max())
    scale = _PEAK * 10 ** (-float(rng.uniform(0, 6)) / 20) / max(peak, 1e-9)
    return {role: (stem * scale).astype(np.float32) for role, stem in mixed.items()}
