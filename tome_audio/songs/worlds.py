"""Worlds to test sample identification on: originals, distractors, and songs of which the samples are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tome_audio.data.sample_tables import PARTS, Occurrence
from tome_audio.songs.flips import Flip, FlipOptions, Music, Span, draw_flip, draw_spans, mastered, overlaid
from tome_audio.songs.material import Material

Samples = NDArray[np.float32]

Kind = Literal["original", "distractor", "song", "material"]

SHARED = "shared"
"""In the place of a part: originals that the songs of all parts sample."""
_PARTS = (*PARTS, SHARED)
_STREAMS = ("original", "distractor", "song", "material", "order")
_SPREAD = 0.15
"""Tracks are up to so much of their length shorter or longer, so that it tells nothing."""


@dataclass(frozen=True)
class PartCounts:
    """How many tracks a part has.

    Attributes:
        n_songs: Songs that sample an original.
        n_without: Songs that sample nothing that is listed.
        n_originals: References that songs sample; each is sampled before one is sampled again.
        n_distractors: References that nobody samples.
        n_material: Songs with stems to train on, outside of the tables.

    Raises:
        ValueError: Fewer than none.
    """

    n_songs: int = 0
    n_without: int = 0
    n_originals: int = 0
    n_distractors: int = 0
    n_material: int = 0

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            if count < 0:
                raise ValueError(f"{name} must be 0 or more, got {count}")


DEFAULT_PARTS: Mapping[str, PartCounts] = {
    "train": PartCounts(n_material=400),
    "valid": PartCounts(n_songs=25, n_without=25, n_originals=50, n_distractors=100, n_material=40),
    "test": PartCounts(n_songs=50, n_without=50, n_originals=100, n_distractors=300),
}


@dataclass(frozen=True)
class WorldOptions:
    """All that a world follows from, beside its material.

    Attributes:
        seed: Of all that is drawn.
        parts: How many tracks each of train, valid and test has.
        shared_originals: Originals that songs of all parts sample in turn, for classifying songs by their original;
            no part has originals of its own then. 0 gives each part its own.
        flip: What becomes of samples.
        seconds: Length of songs and generated references, give or take 15 %.
        material_seconds: Length of songs with stems.
        second_sample: Part of the songs with a sample that sample two originals, one after the other.
        unlisted: Part of the songs without a listed sample that sample something that is no reference.

    Raises:
        ValueError: A value out of range, or songs that have nothing to sample.
    """

    seed: int = 0
    parts: Mapping[str, PartCounts] = field(default_factory=lambda: dict(DEFAULT_PARTS))
    shared_originals: int = 0
    flip: FlipOptions = field(default_factory=FlipOptions)
    seconds: float = 30.0
    material_seconds: float = 20.0
    second_sample: float = 0.0
    unlisted: float = 0.5

    def wanted_parts(self) -> tuple[str, ...]:
        """Return the parts that any track is made for."""
        return tuple(part for part in PARTS if any(vars(self.parts.get(part, PartCounts())).values()))

    def n_originals(self, part: str) -> int:
        """Return how many originals a part has of its own."""
        return 0 if self.shared_originals else self.parts[part].n_originals

    def __post_init__(self) -> None:
        if self.seed < 0 or self.shared_originals < 0:
            raise ValueError(f"seed and shared_originals must be 0 or more, got {self.seed}, {self.shared_originals}")
        for name in ("seconds", "material_seconds"):
            if not 4 <= getattr(self, name) <= 1800:
                raise ValueError(f"{name} must be between 4 and 1800, got {getattr(self, name)}")
        for name in ("second_sample", "unlisted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for part, counts in self.parts.items():
            if part not in PARTS:
                raise ValueError(f"part {part!r} is not one of {', '.join(PARTS)}")
            if counts.n_songs and not (self.shared_originals or counts.n_originals):
                raise ValueError(f"part {part} has songs and nothing to sample: give it originals, or n_songs 0")


@dataclass(frozen=True)
class Plan:
    """A track to make: its place in the world."""

    id: str
    part: str
    kind: Kind
    number: int
    originals: tuple[int, ...] = ()


@dataclass(frozen=True)
class Made:
    """A track: its mix (T,) or, of material, its stems; where it samples what; what else is known of it."""

    plan: Plan
    seconds: float
    audio: Mapping[str, Samples]
    occurrences: tuple[Occurrence, ...]
    facts: Mapping[str, Any]


def plan_world(options: WorldOptions) -> Iterator[Plan]:
    """Give every track of a world, in the order of its table; no two parts have one in common."""
    for number in range(options.shared_originals):
        yield Plan(track_id(SHARED, "original", number), SHARED, "original", number)
    for part in options.wanted_parts():
        counts = options.parts[part]
        for number in range(options.n_originals(part)):
            yield Plan(track_id(part, "original", number), part, "original", number)
        for number in range(counts.n_distractors):
            yield Plan(track_id(part, "distractor", number), part, "distractor", number)
        n_originals = options.shared_originals or counts.n_originals
        order = _rng(options.seed, part, "order", 0).permutation(n_originals).tolist()
        for number in range(counts.n_songs + counts.n_without):
            sampled: tuple[int, ...] = ()
            if number < counts.n_songs:
                sampled = (order[number % n_originals],)
                if n_originals > 1 and _rng(options.seed, part, "order", 1 + number).random() < options.second_sample:
                    sampled = (*sampled, order[(number + n_originals // 2) % n_originals])
            yield Plan(track_id(part, "song", number), part, "song", number, sampled)
        for number in range(counts.n_material):
            yield Plan(track_id(part, "material", number), part, "material", number)


def track_id(part: str, kind: Kind, number: int) -> str:
    """Return the id of a track, such as test-song-0007."""
    return f"{part}-{kind}-{number:04}"


def make_track(options: WorldOptions, material: Material, plan: Plan) -> Made:
    """Make one track; it follows from (seed, part, kind, number) alone."""
    rng = _rng(options.seed, plan.part, plan.kind, plan.number)
    rate = material.sample_rate
    if plan.kind == "material":
        stems, facts = material.stems(rng, plan.part, options.material_seconds)
        return Made(plan, options.material_seconds, stems, (), facts)
    if plan.kind == "song":
        return _make_song(options, material, plan, rng)
    music = _reference(options, material, plan.part, plan.kind, plan.number)
    samples = mastered(rng, music.samples, rate)
    return Made(plan, len(samples) / rate, {"": samples}, (), _facts(music))


def _make_song(options: WorldOptions, material: Material, plan: Plan, rng: np.random.Generator) -> Made:
    rate, flip_options = material.sample_rate, options.flip
    seconds = _drawn_seconds(rng, options.seconds)
    shared = SHARED if options.shared_originals else plan.part
    sampled = [
        (track_id(shared, "original", n), _reference(options, material, shared, "original", n)) for n in plan.originals
    ]
    listed = bool(sampled)
    if not listed and rng.random() < options.unlisted:
        sampled = [("", material.unlisted(rng, plan.part, _drawn_seconds(rng, options.seconds)))]
    flips = [draw_flip(rng, flip_options, original, rate) for _, original in sampled]
    fits = bool(flips) and rng.random() < flip_options.fitting
    song = material.song(rng, plan.part, seconds, (sampled[0][1], flips[0]) if fits else None)
    mixed, occurrences = song.samples, []
    for place, ((original, music), flip) in enumerate(zip(sampled, flips, strict=True)):
        begin, end = (seconds * edge / len(flips) for edge in (place, place + 1))
        spans = draw_spans(rng, flip_options, flip, song, begin, end)
        # All samples are measured against what the song plays itself.
        mixed = mixed + overlaid(song.samples, music.samples, flip, spans, rate) - song.samples
        occurrences += [_occurrence(plan.id, original, flip, span, len(spans)) for span in spans]
    samples = mastered(rng, mixed, rate)
    facts = {**_facts(song), "samples_something_unlisted": bool(sampled) and not listed, "fitting": fits}
    return Made(plan, len(samples) / rate, {"": samples}, tuple(occurrences) if listed else (), facts)


def _occurrence(song: str, original: str, flip: Flip, span: Span, n_spans: int) -> Occurrence:
    return Occurrence(
        song=song,
        original=original,
        song_start=round(span.song_start, 6),  # to the microsecond: within a sample
        song_end=round(span.song_end, 6),
        original_start=round(span.original_start, 6),
        original_end=round(span.original_end, 6),
        semitones=flip.semitones,
        tempo_ratio=flip.tempo_ratio,
        level_db=flip.level_db,
        kind="loop" if n_spans > 1 else "single",
    )


def _reference(options: WorldOptions, material: Material, part: str, role: Any, number: int) -> Music:
    """The same music whenever it is asked for: it has a generator of its own."""
    rng = _rng(options.seed, part, role, number, 1)
    return material.reference(rng, part, role, number, _drawn_seconds(rng, options.seconds))


def _drawn_seconds(rng: np.random.Generator, seconds: float) -> float:
    return round(seconds * float(rng.uniform(1 - _SPREAD, 1 + _SPREAD)), 3)


def _rng(seed: int, part: str, stream: str, number: int, take: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, _PARTS.index(part), _STREAMS.index(stream), number, take])


def _facts(music: Music) -> dict[str, Any]:
    return {"title": music.title, "genre": music.genre}
