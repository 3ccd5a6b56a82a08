"""Samples of originals in other songs: cut, bent, equalised, looped and laid over what the song plays itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tome_audio.songs.bending import bent, check_bend
from tome_audio.songs.finishing import Equaliser, draw_equaliser, equalised, loudness
from tome_audio.songs.harmony import Key

Samples = NDArray[np.float32]

_MARGIN_SECONDS = 0.25
_FADE_SECONDS = 0.005
_SHORTEST_SECONDS = 0.5
"""A repetition that the song's end would leave less of is left out."""
_TRIES = 8
_BARS = (1, 2, 4, 8)


@dataclass(frozen=True)
class FlipOptions:
    """How much a sample is changed, and where it sounds.

    Attributes:
        seconds: Shortest and longest stretch that is cut from an original.
        semitones: Lowest and highest transposition.
        tempo_ratio: Slowest and fastest tempo of the sample against the original's.
        level_db: Lowest and highest level of the sample against all else that sounds meanwhile.
        equaliser_db: Strongest bump of the sample's equaliser; 0 leaves its spectrum as it is.
        loops: Most repetitions back to back; 1 plays the sample once.
        throughout: Part of the songs where the sample goes on from beginning to end, however many repetitions it takes.
        on_the_beat: Part of the samples that are cut at beats and begin at a beat, where there are beats.
        fitting: Part of the songs whose tempo and key are those of their sample.

    Raises:
        ValueError: A range the wrong way round, or a value out of range.
    """

    seconds: tuple[float, float] = (2.0, 8.0)
    semitones: tuple[float, float] = (-6.0, 6.0)
    tempo_ratio: tuple[float, float] = (0.7, 1.5)
    level_db: tuple[float, float] = (-3.0, 6.0)
    equaliser_db: float = 10.0
    loops: int = 8
    throughout: float = 0.35
    on_the_beat: float = 0.7
    fitting: float = 0.7

    def __post_init__(self) -> None:
        limits = {"seconds": (0.5, 600), "semitones": (-12, 12), "tempo_ratio": (0.5, 2), "level_db": (-60, 60)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"flip.{name} must be a range from low to high within {least} to {most}, got {low}, {high}"
                )
        for semitones, ratio in product(self.semitones, self.tempo_ratio):
            check_bend(semitones, ratio)
        for name in ("throughout", "on_the_beat", "fitting"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"flip.{name} must be between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.equaliser_db <= 40:
            raise ValueError(f"flip.equaliser_db must be between 0 and 40, got {self.equaliser_db}")
        if self.loops < 1:
            raise ValueError(f"flip.loops must be at least 1, got {self.loops}")

    @property
    def bends(self) -> bool:
        """Whether any sample changes its pitch or tempo."""
        return self.semitones != (0, 0) or self.tempo_ratio != (1, 1)


DEFAULT_FLIP = FlipOptions()


@dataclass(frozen=True)
class Music:
    """Samples (T,) and what is known of what they play; real recordings have no tempo and no key here.

    Attributes:
        samples: T samples, peak at most 1.
        tempo: In beats per minute.
        first_bar: Where a bar begins, in seconds.
        beats_per_bar: 3 or 4.
        key: Of a generated song.
        tuning: Semitones above a concert pitch of 440 Hz.
        title: For people to read.
        genre: Of a real recording, its class.
    """

    samples: Samples
    tempo: float | None = None
    first_bar: float = 0.0
    beats_per_bar: int = 4
    key: Key | None = None
    tuning: float = 0.0
    title: str | None = None
    genre: str | None = None


@dataclass(frozen=True)
class Flip:
    """What is cut from an original and how it is changed; times in seconds of the original."""

    start: float
    end: float
    semitones: float
    tempo_ratio: float
    level_db: float
    equaliser: Equaliser | None

    @property
    def seconds(self) -> float:
        """How long one repetition sounds in the song."""
        return (self.end - self.start) / self.tempo_ratio


@dataclass(frozen=True)
class Span:
    """One repetition: where it sounds in the song and what it is of the original, in seconds."""

    song_start: float
    song_end: float
    original_start: float
    original_end: float


def draw_flip(rng: np.random.Generator, options: FlipOptions, original: Music, sample_rate: int) -> Flip:
    """Draw a stretch of an original, of several the first that sounds, and what becomes of it.

    An original shorter than the shortest stretch is taken whole.
    """
    total = len(original.samples) / sample_rate
    on_the_beat = original.tempo is not None and rng.random() < options.on_the_beat
    wanted = loudness(original.samples, sample_rate) / 4
    best = (-1.0, 0.0, total)
    for _ in range(_TRIES):
        start, end = _draw_cut(rng, options, original, total, on_the_beat)
        loud = loudness(original.samples[round(start * sample_rate) : round(end * sample_rate)], sample_rate)
        if loud > best[0]:
            best = (loud, start, end)
        if loud >= wanted:
            break
    equaliser = None
    if options.equaliser_db > 0:
        # Producers cut basses and highs of a sample to make room, not always.
        low_cut = float(rng.uniform(80, 350)) if rng.random() < 0.4 else 20.0
        equaliser = draw_equaliser(rng, options.equaliser_db, low_cut)
    semitones, ratio, level = (
        round(float(rng.uniform(*span)), 3) for span in (options.semitones, options.tempo_ratio, options.level_db)
    )
    return Flip(best[1], best[2], semitones, ratio, level, equaliser)


def draw_spans(
    rng: np.random.Generator, options: FlipOptions, flip: Flip, song: Music, begin: float, end: float
) -> tuple[Span, ...]:
    """Draw where a sample sounds in a song between two times in seconds: repetitions back to back.

    The last one may be cut short by the end.
    """
    throughout = rng.random() < options.throughout
    fitting = max(1, int((end - begin) / flip.seconds))
    n_repetitions = 10**6 if throughout else int(rng.integers(1, min(options.loops, fitting) + 1))
    room = max(0.0, end - begin - n_repetitions * flip.seconds)
    start = begin + (0.0 if throughout else float(rng.uniform(0, room)))
    if song.tempo is not None and rng.random() < options.on_the_beat:
        beat = 60 / song.tempo
        offset = song.first_bar % beat
        start = offset + beat * max(round((start - offset) / beat), math.ceil((begin - offset) / beat))
    spans: list[Span] = []
    for turn in range(n_repetitions):
        song_start = start + turn * flip.seconds
        song_end = min(song_start + flip.seconds, end)
        if song_end - song_start < min(_SHORTEST_SECONDS, flip.seconds - 1e-6) and spans:
            break
        original_end = min(flip.end, flip.start + (song_end - song_start) * flip.tempo_ratio)
        spans.append(Span(song_start, song_end, flip.start, original_end))
    return tuple(spans)


def flipped(original: Samples, flip: Flip, sample_rate: int) -> Samples:
    """Return one repetition (T,) of a sample, T = `flip.seconds` in samples, with short fades at both ends.

    The stretcher gets a little of the original on both sides too, so that it begins and ends as it goes on.
    """
    first, last = round(flip.start * sample_rate), round(flip.end * sample_rate)
    margin = round(_MARGIN_SECONDS * sample_rate)
    # Beyond the ends of the original there is silence.
    around = np.pad(original, (max(0, margin - first), max(0, last + margin - len(original))))
    begin = max(0, first - margin)
    changed = bent(around[begin : begin + last - first + 2 * margin], sample_rate, flip.semitones, flip.tempo_ratio)
    n_samples, skipped = round(flip.seconds * sample_rate), round(margin / flip.tempo_ratio)
    piece = changed[skipped : skipped + n_samples]
    piece = np.pad(piece, (0, n_samples - len(piece)))
    if flip.equaliser is not None:
        piece = equalised(piece, flip.equaliser, sample_rate)
    return faded(piece, sample_rate)


def faded(samples: Samples, sample_rate: int) -> Samples:
    """Return (T,) with fades of 5 ms at both ends, so that a cut does not click."""
    fade = min(round(_FADE_SECONDS * sample_rate), len(samples) // 2)
    out = samples.astype(np.float32)
    rising = np.linspace(0, 1, fade, dtype=np.float32)
    out[:fade] *= rising
    out[len(out) - fade :] *= rising[::-1]
    return out


def overlaid(others: Samples, original: Samples, flip: Flip, spans: Sequence[Span], sample_rate: int) -> Samples:
    """Return others (T,) with the sample laid over them at its level; not normalised.

    The level holds between the root mean squares of what sounds of the two where the sample is. Where nothing else
    sounds there, all of `others` is what the sample is measured against.

    Raises:
        ValueError: The stretch that was cut is silent.
    """
    piece = flipped(original, flip, sample_rate)
    laid = np.zeros_like(others)
    heard = np.zeros(len(others), bool)
    for span in spans:
        start = round(span.song_start * sample_rate)
        length = min(round((span.song_end - span.song_start) * sample_rate), len(piece), len(others) - start)
        once = piece if length == len(piece) else faded(piece[:length], sample_rate)
        laid[start : start + length] += once[:length]
        heard[start : start + length] = True
    beside = loudness(others[heard], sample_rate) or loudness(others, sample_rate)
    own = loudness(laid[heard], sample_rate)
    if own == 0:
        raise ValueError(f"the original is silent from {flip.start} s to {flip.end} s: no level makes that a sample")
    gain = (beside or 1.0) * 10 ** (flip.level_db / 20) / own
    return others + np.float32(gain) * laid


def mastered(rng: np.random.Generator, samples: Samples, sample_rate: int) -> Samples:
    """Return (T,) with its peak at -6 to -1 dB of full scale and, in some tracks, faded in or out."""
    out = samples.astype(np.float32)
    for end in (slice(None), slice(None, None, -1)):
        if rng.random() < 0.2:
            length = min(len(out) // 4, round(float(rng.uniform(0.1, 2.0)) * sample_rate))
            out[end][:length] *= np.linspace(0, 1, length, dtype=np.float32)
    peak = float(np.abs(out).max())
    return out * np.float32(10 ** (-float(rng.uniform(1, 6)) / 20) / max(peak, 1e-9))


def _draw_cut(
    rng: np.random.Generator, options: FlipOptions, original: Music, total: float, on_the_beat: bool
) -> tuple[float, float]:
    low, high = (min(bound, total) for bound in options.seconds)
    if on_the_beat and original.tempo is not None:
        beat = 60 / original.tempo
        lengths = [n * original.beats_per_bar * beat for n in _BARS]
        lengths = [length for length in lengths if low <= length <= high] or [
            n * beat for n in range(1, int(high / beat) + 1) if n * beat >= low
        ]
        if lengths:
            length = lengths[int(rng.integers(len(lengths)))]
            first = original.first_bar % beat
            n_starts = int((total - length - first) / beat) + 1
            if n_starts >= 1:
                start = first + beat * int(rng.integers(n_starts))
                return round(start, 4), round(start + length, 4)
    length = float(rng.uniform(low, high))
    start = float(rng.uniform(0, total - length))
    return round(start, 4), round(min(start + length, total), 4)
