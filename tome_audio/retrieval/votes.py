"""From similarities of windows to a score per track, and to where in the song and in the original it is heard.

Pure functions. A sample is a few seconds of the original that may be looped: all windows of the song that hold it
match about the same place of the original, in one transposition and at one tempo. So a place gathers the votes of the
windows that match near it, and a track is as good as its best place in its best variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class VoteOptions:
    """How votes are counted.

    Attributes:
        n_windows: Windows of the song that vote for a place: the best ones, fewer where the song has fewer.
        reach: Seconds between window starts in the original that still count as one place.
        normalise: Count similarities in standard deviations from what a window has with the whole index: some windows
            are like everything. Otherwise cosines are counted.
    """

    n_windows: int = 3
    reach: float = 5.0
    normalise: bool = True

    def __post_init__(self) -> None:
        """Raise unless the options mean something."""
        if self.n_windows < 1 or not self.reach >= 0:
            raise ValueError(f"n_windows must be at least 1 and reach 0 s or more, got {self.n_windows}, {self.reach}")


class TrackVotes(NamedTuple):
    """For each of T tracks the score, the variant and the row of the place that has it, each (T,)."""

    scores: Tensor
    variants: Tensor
    places: Tensor


class Span(NamedTuple):
    """A stretch of the song that matches: its windows from `first` to `last`, and rows of the original they match."""

    first: int
    last: int
    rows: tuple[int, ...]


def gather_near(similarities: Tensor, track: Tensor, starts: Tensor, reach: float) -> Tensor:
    """Return for each window of an original the largest similarity of those of its track that start near it.

    Args:
        similarities: (..., N).
        track: Number of the track of each window (N,), ascending.
        starts: Seconds (N,), ascending within a track.
        reach: Seconds between two starts that still are near.

    Returns:
        (..., N).
    """
    found = similarities.clone()
    for shift in range(1, len(track)):
        near = (track[shift:] == track[:-shift]) & (starts[shift:] - starts[:-shift] <= reach + 1e-6)
        if not bool(near.any()):
            break
        nowhere = similarities.new_full((), -torch.inf)
        found[..., shift:] = found[..., shift:].maximum(similarities[..., :-shift].where(near, nowhere))
        found[..., :-shift] = found[..., :-shift].maximum(similarities[..., shift:].where(near, nowhere))
    return found


def keep_best(best: Tensor | None, similarities: Tensor, n: int) -> Tensor:
    """Return the n largest of `best` (K, V, N) and `similarities` (Q, V, N) over the first axis, fewer if there are.

    Called with one part of a song after the other, it keeps what the whole song would give.
    """
    both = similarities if best is None else torch.cat([best, similarities])
    return both.topk(min(n, len(both)), dim=0, sorted=False).values


def vote(best: Tensor, track: Tensor, n_tracks: int) -> TrackVotes:
    """Return the score of each track: the mean of the best windows, at its best place in its best variant.

    Args:
        best: Largest similarities of each place over the windows of a song (K, V, N), as `keep_best` gives them.
        track: Number of the track of each place (N,), ascending from 0; every track has one.
        n_tracks: Number of tracks T.
    """
    scores, variants = best.mean(0).max(0)  # over variants: (N,)
    top = scores.new_full((n_tracks,), -torch.inf).scatter_reduce(0, track, scores, "amax")
    rows = torch.arange(len(track), device=track.device)
    is_top = scores == top[track]
    places = torch.full((n_tracks,), len(track), device=track.device)
    places = places.scatter_reduce(0, track[is_top], rows[is_top], "amin")  # the first one where several are equal
    return TrackVotes(top, variants[places], places)


def matching_spans(
    similarities: Tensor,
    song_starts: Tensor,
    starts: Tensor,
    place: int,
    window: float,
    options: VoteOptions,
) -> list[Span]:
    """Return where in a song a track is heard, the stretch with the best window first, and the rows it matches there.

    A window counts that matches near the place and comes closer to the track's score than to the mean of all
    similarities. Windows that count and overlap or touch form one stretch.

    Args:
        similarities: Of all windows of the song and all of the track, in the track's best variant (Q, R).
        song_starts: Seconds (Q,), ascending.
        starts: Seconds (R,), ascending.
        place: Row of the track's best place.
        window: Seconds of a window.
        options: How votes were counted.
    """
    near = (starts - starts[place]).abs() <= options.reach + 1e-6
    rows = near.nonzero().flatten()
    best, which = similarities[:, rows].max(1)
    score = best.topk(min(options.n_windows, len(best))).values.mean()
    least = torch.minimum((score + similarities.mean()) / 2, best.max())
    counts = (best >= least).nonzero().flatten().tolist()
    runs: list[list[int]] = []
    for number in counts:
        if runs and float(song_starts[number] - song_starts[runs[-1][-1]]) <= window + 1e-6:
            runs[-1].append(number)
        else:
            runs.append([number])
    runs.sort(key=lambda run: -float(best[run].max()))
    return [Span(run[0], run[-1], tuple(sorted({int(rows[which[i]]) for i in run}))) for run in runs]
