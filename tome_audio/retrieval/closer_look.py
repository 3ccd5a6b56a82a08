"""The tracks that votes put first, aligned with the song: a second score, and where exactly the sample is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tome_audio.retrieval.alignment import AlignOptions, Fits, Stretches, fit, judge, song_stretches
from tome_audio.retrieval.matrix import IndexMatrix
from tome_audio.retrieval.sketches import ROWS_PER_SECOND
from tome_audio.retrieval.votes import TrackVotes

SketchOf = Callable[[str], Tensor]
"""Sketch (T, F) of a track by its id."""


class Aligned(NamedTuple):
    """The best alignment of a song and a track: score, places in seconds, and how the sample was changed.

    The sample is heard from `song_start` to `song_end` at least: that was laid over the track; it may go on.
    """

    score: float
    song_start: float
    song_end: float
    original_start: float
    original_end: float
    semitones: float
    tempo_ratio: float


def align_tracks(
    numbers: Sequence[int],
    song_sketch: Tensor,
    sketch_of: SketchOf,
    votes: TrackVotes,
    matrix: IndexMatrix,
    window: float,
    options: AlignOptions,
) -> list[Aligned]:
    """Lay a song over tracks, near the places that were voted for; one answer per track, in their order.

    Args:
        numbers: Of the tracks.
        song_sketch: Of the song (T, F).
        sketch_of: Gives the sketches of tracks.
        votes: Of all tracks.
        matrix: All windows of the index.
        window: Seconds of a window.
        options: What is tried.
    """
    stretches = song_stretches(song_sketch, ROWS_PER_SECOND, options)
    found: list[Fits] = []
    firsts: list[int] = []
    for number in numbers:
        place = float(matrix.starts[int(votes.places[number])])
        first = max(0, int((place - options.reach) * ROWS_PER_SECOND))
        last = int((place + window + options.reach) * ROWS_PER_SECOND) + 1
        found.append(fit(stretches, sketch_of(matrix.ids[number])[first:last]))
        firsts.append(first)
    verdict = judge(torch.stack([each.scores for each in found]), options.n_tempi, options.together)
    return [
        _aligned(stretches, fits, first, float(score), int(stretch), int(way))
        for fits, first, score, stretch, way in zip(found, firsts, *verdict, strict=True)
    ]


def _aligned(stretches: Stretches, fits: Fits, first: int, score: float, stretch: int, way: int) -> Aligned:
    row, (ratio, semitones) = first + int(fits.rows[stretch, way]), stretches.ways[way]
    start, rate = stretches.starts[stretch], ROWS_PER_SECOND
    return Aligned(
        score,
        start / rate,
        (start + stretches.n_rows) / rate,
        row / rate,
        (row + int(stretches.lengths[way])) / rate,
        float(semitones),
        ratio,
    )
