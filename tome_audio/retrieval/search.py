"""Which tracks of an index a song matches: exactly, or among candidates that faiss finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tome_audio.installation import import_extra
from tome_audio.retrieval.matrix import IndexMatrix, Moments
from tome_audio.retrieval.votes import TrackVotes, VoteOptions, gather_near, keep_best, vote

# Similarities held at a time: 32 MB of float32, and a few copies of them.
_MOST_SIMILARITIES = 2**23
# Cosines of windows that have nothing in common (mean and deviation), and how many windows that counts for: what a
# window has in common with anything is measured on the index, and on this where the index is small.
_CHANCE, _SPREAD, _WEIGHT = 0.36, 0.11, 50.0
# Rows below which faiss compares with all of them: nothing is gained by its lists yet.
_FEWEST_FOR_LISTS = 20_000


class Search(Protocol):
    """Chooses the tracks whose windows are compared with a song."""

    @property
    def matrix(self) -> IndexMatrix:
        """All windows of the index."""

    def candidates(self, queries: Tensor) -> Tensor:
        """Return numbers of tracks (T',), ascending, for windows of a song in all variants (Q, V, D)."""


@dataclass(frozen=True)
class ExactSearch:
    """Compares a song with every track."""

    matrix: IndexMatrix

    def candidates(self, queries: Tensor) -> Tensor:
        """Return the numbers of all tracks."""
        return torch.arange(len(self.matrix.ids))


class FaissSearch:
    """Compares a song with the tracks of the nearest neighbours of its windows, which faiss finds.

    Scores of these tracks are exact. Below 20,000 windows the neighbours are too, above they are looked for in a part
    of the index.

    Args:
        matrix: All windows of the index.
        n_neighbours: Windows of the index that are looked up for every variant of every window of a song.
        n_candidates: Tracks that are kept at most, those with the nearest neighbours.
        probed: Part of a large index that is looked at, in (0, 1].

    Raises:
        ImportError: faiss is not installed.
        ValueError: `n_neighbours` or `n_candidates` below 1, or `probed` out of range.
    """

    def __init__(
        self, matrix: IndexMatrix, *, n_neighbours: int = 50, n_candidates: int = 200, probed: float = 0.1
    ) -> None:
        if min(n_neighbours, n_candidates) < 1 or not 0 < probed <= 1:
            raise ValueError(
                f"n_neighbours and n_candidates must be at least 1 and probed in (0, 1], got {n_neighbours}, "
                f"{n_candidates}, {probed}"
            )
        faiss: Any = import_extra("faiss", "searching with faiss", "faiss")
        n_rows, n_dims = matrix.values.shape
        rows = matrix.values.contiguous().numpy()
        if n_rows < _FEWEST_FOR_LISTS:
            self._index = faiss.IndexFlatIP(n_dims)
        else:
            n_lists = round(4 * n_rows**0.5)
            self._index = faiss.index_factory(n_dims, f"IVF{n_lists},Flat", faiss.METRIC_INNER_PRODUCT)
            self._index.train(rows)
            self._index.nprobe = max(1, round(probed * n_lists))
        self._index.add(rows)
        self.matrix = matrix
        self.n_neighbours = min(n_neighbours, n_rows)
        self.n_candidates = n_candidates

    def candidates(self, queries: Tensor) -> Tensor:
        """Return the numbers of the tracks that have the nearest neighbours of any window in any variant."""
        found = self._index.search(queries.flatten(0, 1).contiguous().numpy(), self.n_neighbours)
        similarities, rows = (torch.from_numpy(values).flatten() for values in found)
        similarities, rows = similarities[rows >= 0], rows[rows >= 0]  # -1: fewer neighbours than wanted
        best = torch.full((len(self.matrix.ids),), -torch.inf)
        best = best.scatter_reduce(0, self.matrix.track[rows], similarities, "amax")
        n_found = int(best.isfinite().sum())
        return best.topk(min(n_found, self.n_candidates)).indices.sort().values


def usual_similarities(queries: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the similarities of queries (..., D) to a whole index, (...) each.

    Both follow from the index's moments. Scores that are set against those of a cohort are known from speaker
    verification as T-norm (Auckenthaler et al., 2000); here the cohort is the index.
    """
    n, exact = moments.n, queries.double()
    square = ((exact @ moments.second) * exact).sum(-1)
    mean = (n * (exact @ moments.mean) + _WEIGHT * _CHANCE) / (n + _WEIGHT)
    square = (n * square + _WEIGHT * (_SPREAD**2 + _CHANCE**2)) / (n + _WEIGHT)
    spread = (square - mean.square()).clamp_min(1e-12).sqrt()
    return mean.to(queries.dtype), spread.to(queries.dtype)


def score_tracks(
    queries: Tensor,
    matrix: IndexMatrix,
    options: VoteOptions,
    *,
    moments: Moments | None = None,
    most: int = _MOST_SIMILARITIES,
) -> TrackVotes:
    """Compare all windows of a song with all windows of a matrix and count the votes; scores etc. are (T,).

    Neither the length of the song nor the size of the index adds to the memory this takes.

    Args:
        queries: Embeddings of the song's windows in all variants (Q, V, D), of unit length.
        matrix: The tracks.
        options: How votes are counted.
        moments: Of the whole index, where `matrix` is a part of it.
        most: Similarities held at a time; a window of the song against one track is the least.
    """
    n_variants = queries.shape[1]
    parts = []
    offset = queries.new_zeros(queries.shape[:2])
    if options.normalise:
        mean, spread = usual_similarities(queries, matrix.moments if moments is None else moments)
        queries, offset = queries / spread[..., None], mean / spread
    for first, last in _track_blocks(matrix, most // n_variants):
        part = matrix.between(first, last)
        best = None
        together = max(1, most // (n_variants * len(part.values)))
        for some, less in zip(queries.split(together), offset.split(together), strict=True):
            near = gather_near(some @ part.values.T - less[..., None], part.track, part.starts, options.reach)
            best = keep_best(best, near, options.n_windows)
        assert best is not None  # a song has a window
        found = vote(best, part.track, last - first)
        parts.append(found._replace(places=found.places + matrix.rows(first).start))
    return TrackVotes(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _track_blocks(matrix: IndexMatrix, most_rows: int) -> Iterator[tuple[int, int]]:
    """Yield first and last track, exclusive, of blocks with at most so many windows, at least a track each."""
    counts = torch.bincount(matrix.track, minlength=len(matrix.ids)).tolist()
    first = rows = 0
    for number, count in enumerate(counts):
        if number > first and rows + count > most_rows:
            yield first, number
            first, rows = number, 0
        rows += count
    yield first, len(counts)
