"""Which originals a song samples, and where: windows, search and votes put together."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tome_audio.retrieval.alignment import AlignOptions
from tome_audio.retrieval.closer_look import Aligned, SketchOf, align_tracks
from tome_audio.retrieval.embedder import Embedder
from tome_audio.retrieval.embedding import EmbeddedWindows, embed_song
from tome_audio.retrieval.matrix import IndexMatrix
from tome_audio.retrieval.search import Search, score_tracks
from tome_audio.retrieval.sketches import sketch_file
from tome_audio.retrieval.votes import Span, TrackVotes, VoteOptions, matching_spans
from tome_audio.retrieval.windows import OnSeconds

_DEFAULTS = VoteOptions()
_BELOW = 100.0
"""What is taken off the votes of tracks that were not aligned, so that they stand behind those that were."""


@dataclass(frozen=True)
class Match:
    """A stretch of a song in which a track is heard.

    Attributes:
        track: Id of the original.
        score: Of the track, for the whole song.
        song_start: Seconds; this and the following three are those of windows, or of what was aligned, not of the
            sample itself.
        song_end: Seconds.
        original_start: Seconds.
        original_end: Seconds.
        semitones: How much higher the sample sounds in the song than in the original.
        tempo_ratio: How much faster it is played in the song.
    """

    track: str
    score: float
    song_start: float
    song_end: float
    original_start: float
    original_end: float
    semitones: float
    tempo_ratio: float


@dataclass(frozen=True)
class Heard:
    """What a song matches in one track.

    Attributes:
        matches: One per stretch of the song, the best one first.
        track: Id.
        seconds: Length of the track.
        profile: For each window of the song the largest similarity to the track in its best variant (Q,).
    """

    matches: tuple[Match, ...]
    track: str
    seconds: float
    profile: Tensor


@dataclass(frozen=True)
class Identified:
    """The answer to one song.

    Attributes:
        ids: Of all tracks that were compared, best first; with faiss those are the candidates.
        scores: Theirs, in the same order (T,): of alignment, in standard deviations beyond chance, for those that were
            aligned; otherwise that of votes, less 100 where others were aligned.
        heard: What was heard of the first few of them.
        starts: Seconds at which the windows of the song begin (Q,); windows without sound are not there.
        window: Seconds of a window.
        seconds: Length of the song.
    """

    ids: tuple[str, ...]
    scores: Tensor
    heard: tuple[Heard, ...]
    starts: Tensor
    window: float
    seconds: float

    @property
    def best_score(self) -> float:
        """Score of the best track: whether there is a sample at all is read from it."""
        return float(self.scores[0])


def identify(
    path: str | os.PathLike[str],
    embedder: Embedder,
    search: Search,
    options: VoteOptions = _DEFAULTS,
    *,
    align: AlignOptions | None = None,
    sketch_of: SketchOf | None = None,
    hop: float | None = None,
    n_heard: int = 10,
    batch_size: int = 32,
    on_seconds: OnSeconds | None = None,
) -> Identified:
    """Rank the tracks of an index by how well a song's windows match them, the best ones by how well they fit.

    Args:
        path: Audio file of the song, of any length.
        embedder: The model that the index was made with.
        search: Chooses the tracks to compare with; holds the matrix.
        options: How votes are counted.
        align: How the tracks with most votes are aligned with the song; None leaves it at votes.
        sketch_of: Gives the sketches of tracks, for alignment.
        hop: Seconds from one window of the song to the next; None takes the embedder's.
        n_heard: How many of the best tracks are looked at more closely.
        batch_size: Windows per forward pass.
        on_seconds: Hears of progress.

    Raises:
        AudioError: The file cannot be used; see `stream_windows`.
        DataError: An embedding is NaN or infinite.
    """
    song = embed_song(path, embedder, hop=hop, batch_size=batch_size, on_seconds=on_seconds)
    if align is None or align.n_tracks == 0:
        return identify_windows(song, embedder, search, options, n_heard=n_heard)
    if sketch_of is None:
        raise ValueError("alignment needs the sketches of tracks: pass sketch_of, such as an index's sketch")
    return identify_windows(
        song, embedder, search, options, align=align, sketch_of=sketch_of, song_sketch=sketch_file(path),
        n_heard=n_heard,
    )  # fmt: skip


def identify_windows(
    song: EmbeddedWindows,
    embedder: Embedder,
    search: Search,
    options: VoteOptions = _DEFAULTS,
    *,
    align: AlignOptions | None = None,
    sketch_of: SketchOf | None = None,
    song_sketch: Tensor | None = None,
    n_heard: int = 10,
) -> Identified:
    """Rank the tracks of an index by how well embedded windows of a song (Q, V, D) match them; see `identify`."""
    candidates = search.candidates(song.values)
    everything = search.matrix
    matrix = everything if len(candidates) == len(everything.ids) else everything.select(candidates)
    votes = score_tracks(song.values, matrix, options, moments=everything.moments if options.normalise else None)
    scores = votes.scores
    order = scores.argsort(descending=True, stable=True)
    found: dict[int, Aligned] = {}
    if align is not None and sketch_of is not None and song_sketch is not None:
        scores = scores - _BELOW
        first = order[: align.n_tracks].tolist()
        aligned = align_tracks(first, song_sketch, sketch_of, votes, matrix, embedder.window, align)
        found = dict(zip(first, aligned, strict=True))
        scores[first] = torch.tensor([each.score for each in aligned])
        order = scores.argsort(descending=True, stable=True)
    heard = tuple(
        _with_alignment(_look_closely(number, song, votes, matrix, embedder, options), found.get(number))
        for number in order[:n_heard].tolist()
    )
    ids = tuple(matrix.ids[number] for number in order.tolist())
    return Identified(ids, scores[order], heard, song.starts, embedder.window, song.seconds)


def _with_alignment(heard: Heard, aligned: Aligned | None) -> Heard:
    """Put what alignment found first; the other stretches are known by votes alone, with its changes."""
    if aligned is None:
        return heard
    score, semitones, ratio = aligned.score, aligned.semitones, aligned.tempo_ratio
    exact = Match(heard.track, *aligned)
    others = [replace(match, score=score, semitones=semitones, tempo_ratio=ratio) for match in heard.matches]
    return replace(heard, matches=(exact, *(m for m in others if not m.song_start <= exact.song_start < m.song_end)))


def _look_closely(
    number: int,
    song: EmbeddedWindows,
    votes: TrackVotes,
    matrix: IndexMatrix,
    embedder: Embedder,
    options: VoteOptions,
) -> Heard:
    rows, variant = matrix.rows(number), int(votes.variants[number])
    starts = matrix.starts[rows]
    similarities = song.values[:, variant] @ matrix.values[rows].T
    place = int(votes.places[number]) - rows.start
    spans = matching_spans(similarities, song.starts, starts, place, embedder.window, options)
    seconds = float(matrix.seconds[number])

    def match(span: Span) -> Match:
        return Match(
            matrix.ids[number],
            float(votes.scores[number]),
            float(song.starts[span.first]),
            min(song.seconds, float(song.starts[span.last]) + embedder.window),
            float(starts[span.rows[0]]),
            min(seconds, float(starts[span.rows[-1]]) + embedder.window),
            *(float(fact) for fact in embedder.variant_facts[variant]),
        )

    return Heard(tuple(match(span) for span in spans), matrix.ids[number], seconds, similarities.amax(1))
