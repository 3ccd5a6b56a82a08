"""Who plays what and when: the parts of a song, their instruments, and the sections that they play in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tome_audio.songs.drums import Hit, drum_part, percussion_part
from tome_audio.songs.harmony import Chord, Key, draw_progression
from tome_audio.songs.notes import STEPS, Note, bass, broken_chords, chords_in_rhythm, held_chords, melody


@dataclass(frozen=True)
class Role:
    """What an instrument does in a song.

    Attributes:
        families: Of timbres that can do it.
        centre: MIDI pitches that its middle is drawn from.
        level_db: Against the drums.
        low_cut: Of its equaliser, in Hz.
    """

    families: tuple[str, ...]
    centre: tuple[int, int]
    level_db: float
    low_cut: float


_SOLO = (
    "guitar", "distorted guitar", "piano", "electric piano", "bell", "mallet", "strings", "voice", "synth lead",
    "brass", "reed", "flute", "harp", "clavinet",
)  # fmt: skip
ROLES: dict[str, Role] = {
    "drums": Role((), (0, 0), 0.0, 20.0),
    "percussion": Role((), (0, 0), -8.0, 100.0),
    "bass": Role(("finger bass", "synth bass", "sub bass", "fm bass"), (34, 43), -2.0, 25.0),
    "chords": Role(
        ("guitar", "distorted guitar", "clavinet", "piano", "electric piano", "organ", "synth stab", "brass"),
        (55, 67), -4.0, 90.0,
    ),
    "pad": Role(("pad", "strings", "choir", "organ"), (52, 66), -7.0, 100.0),
    "arpeggio": Role(
        ("guitar", "harp", "piano", "electric piano", "bell", "mallet", "synth stab", "clavinet"), (57, 74), -6.0, 120.0
    ),
    "melody": Role(_SOLO, (62, 79), -2.5, 120.0),
    "counter": Role(_SOLO, (57, 76), -6.0, 120.0),
}  # fmt: skip
"""In the order that stems have."""

_FORMS = ("AABA", "ABAB", "AABB", "ABAC", "ABCA", "AAAB")


@dataclass(frozen=True)
class Arrangement:
    """The notes and strokes of every part of a song, in beats from its first bar; parts by role."""

    chords: tuple[Chord, ...]
    notes: dict[str, list[Note]]
    hits: dict[str, list[Hit]]


def draw_line_up(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw four to six roles: nearly always drums and bass, always chords or a pad, and something that sings."""
    roles = {"chords" if rng.random() < 0.65 else "pad"}
    if rng.random() < 0.92:
        roles.add("drums")
    if rng.random() < 0.92:
        roles.add("bass")
    roles.add("melody" if rng.random() < 0.85 else "arpeggio")
    wanted = int(rng.integers(4, 7))
    rest = [role for role in ROLES if role not in roles]
    for role in rng.permutation(rest).tolist():
        if len(roles) < wanted:
            roles.add(role)
    return tuple(role for role in ROLES if role in roles)


def draw_arrangement(
    rng: np.random.Generator, key: Key, roles: tuple[str, ...], n_bars: int, beats_per_bar: int
) -> Arrangement:
    """Draw sections of a few bars each, with music of their own, in a form where they come back.

    A part rests in some sections. Every part plays in the section that lies in the middle of the song.
    """
    section_bars = int(rng.choice([2, 4, 4, 4, 8]))
    form = _FORMS[int(rng.integers(len(_FORMS)))]
    n_beats = section_bars * beats_per_bar
    centres = {role: float(rng.uniform(*ROLES[role].centre)) for role in roles}
    music = {letter: _section(rng, key, roles, section_bars, beats_per_bar, centres) for letter in sorted(set(form))}
    n_sections = -(-n_bars // section_bars)
    resting = float(rng.uniform(0.0, 0.3))
    notes: dict[str, list[Note]] = {role: [] for role in roles if ROLES[role].families}
    hits: dict[str, list[Hit]] = {role: [] for role in roles if not ROLES[role].families}
    all_chords: list[Chord] = []
    for place in range(n_sections):
        section = music[form[place % len(form)]]
        begin = place * n_beats
        all_chords += [Chord(chord.start + begin, chord.length, chord.degrees) for chord in section.chords]
        plays = {role: rng.random() >= resting for role in roles}
        if sum(plays[role] for role in notes) < 2 or place == (n_sections - 1) // 2:
            plays = dict.fromkeys(roles, True)
        for role, own in notes.items():
            if plays[role]:
                own += [note._replace(start=note.start + begin) for note in section.notes[role]]
        for role, strokes in hits.items():
            if plays[role]:
                strokes += [hit._replace(start=hit.start + begin) for hit in section.hits[role]]
    return Arrangement(tuple(all_chords), notes, hits)


def swung(beat: float, amount: float, steps: int) -> float:
    """Delay what lies between two beats: the middle of every pair of `steps`-th parts of a beat moves by `amount`."""
    pair = 2.0 * steps / STEPS
    turn, within = divmod(beat, pair)
    half = pair / 2
    if within < half:
        return turn * pair + within * (1 + amount)
    return turn * pair + half * (1 + amount) + (within - half) * (1 - amount)


def _section(
    rng: np.random.Generator,
    key: Key,
    roles: tuple[str, ...],
    n_bars: int,
    beats_per_bar: int,
    centres: dict[str, float],
) -> Arrangement:
    n_beats = n_bars * beats_per_bar
    loop_bars = n_bars if n_bars < 4 or rng.random() < 0.6 else n_bars // 2
    once = draw_progression(rng, loop_bars * beats_per_bar, beats_per_bar)
    chords = tuple(
        Chord(chord.start + turn * loop_bars * beats_per_bar, chord.length, chord.degrees)
        for turn in range(n_bars // loop_bars)
        for chord in once
    )
    notes: dict[str, list[Note]] = {}
    hits: dict[str, list[Hit]] = {}
    for role in roles:
        centre = centres[role]
        if role == "drums":
            hits[role] = drum_part(rng, n_bars, beats_per_bar)
        elif role == "percussion":
            hits[role] = percussion_part(rng, n_bars, beats_per_bar)
        elif role == "bass":
            notes[role] = bass(rng, key, chords, n_beats, centre)
        elif role == "pad":
            notes[role] = held_chords(key, chords, centre)
        elif role == "chords":
            notes[role] = chords_in_rhythm(rng, key, chords, n_beats, centre)
        elif role == "arpeggio":
            notes[role] = broken_chords(rng, key, chords, n_beats, centre)
        else:
            notes[role] = melody(rng, key, chords, n_beats, centre)
    return Arrangement(chords, notes, hits)
