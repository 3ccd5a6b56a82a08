"""The tracks that votes put first, aligned with the song: a second score, and where exactly the sample is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tome_audio.retrieval.alignment import AlignOptions, best_fit
from tome_audio.retrieval.embedding import EmbeddedWindows
from tome_audio.retrieval.matrix import IndexMatrix
from tome_audio.retrieval.sketches import ROWS_PER_SECOND
from tome_audio.retrieval.votes import TrackVotes

SketchOf = Callable[[str], Tensor]
"""Sketch (T, F) of a track by its id."""


class Aligned(NamedTuple):
    """The best alignment of a song and a track: score from 0 to 1, places in seconds, and how the sample was changed.

    The sample is heard from `song_start` to `song_end` at least: what was laid over the track, not where it ends.
    """

    score: float
    song_start: float
    song_end: float
    original_start: float
    original_end: float
    semitones: float
    tempo_ratio: float


NOWHERE = Aligned(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Of a track that no stretch of the song could be laid over."""


def align_track(
    number: int,
    song: EmbeddedWindows,
    song_sketch: Tensor,
    votes: TrackVotes,
    matrix: IndexMatrix,
    track_sketch: Tensor,
    window: float,
    options: AlignOptions,
) -> Aligned:
    """Lay the windows of a song that are most like a track over it, near the place that was voted for.

    Args:
        number: Of the track.
        song: Embedded windows of the song (Q, V, D).
        song_sketch: Of the song (T, F).
        votes: Of all tracks.
        matrix: All windows of the index.
        track_sketch: Of the track (T', F).
        window: Seconds of a window.
        options: What is tried.
    """
    rows, variant = matrix.rows(number), int(votes.variants[number])
    profile = (song.values[:, variant] @ matrix.values[rows].T).amax(1)
    semitones = range(options.semitones[0], options.semitones[1] + 1)
    place = float(matrix.starts[int(votes.places[number])])
    first = max(0, int((place - options.reach) * ROWS_PER_SECOND))
    near = track_sketch[first : int((place + window + options.reach) * ROWS_PER_SECOND) + 1]
    length = round(options.seconds * ROWS_PER_SECOND)
    best = NOWHERE
    for start in _apart(profile, song.starts, options.n_windows, window / 2):
        begins = max(0, round((start + (window - options.seconds) / 2) * ROWS_PER_SECOND))
        stretch = song_sketch[begins : begins + length]
        fit = best_fit(stretch, near, semitones, options.tempi)
        if fit is not None and fit.score > best.score:
            seconds = [
                row / ROWS_PER_SECOND
                for row in (begins, begins + len(stretch), first + fit.row, first + fit.row + fit.rows)
            ]
            best = Aligned(fit.score, *seconds, float(fit.semitones), fit.tempo_ratio)
    return best


def _apart(profile: Tensor, starts: Tensor, n: int, seconds: float) -> list[float]:
    """Return the starts of the n windows that match best and are so many seconds apart."""
    chosen: list[float] = []
    for number in torch.argsort(profile, descending=True, stable=True).tolist():
        start = float(starts[number])
        if all(abs(start - other) >= seconds - 1e-6 for other in chosen):
            chosen.append(start)
            if len(chosen) == n:
                break
    return chosen
