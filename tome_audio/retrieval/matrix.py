"""The windows of all tracks of an index as one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 2**16  # of which float64 copies are made at a time: 64 MB at 128 dimensions


class Moments(NamedTuple):
    """Mean (D,) and mean outer product (D, D) of n embeddings, float64."""

    n: int
    mean: Tensor
    second: Tensor


@dataclass(frozen=True)
class IndexMatrix:
    """All windows of an index, track by track.

    Attributes:
        ids: Of the tracks, in order.
        seconds: Lengths of the tracks (T,), float64.
        values: Embeddings of unit length (N, D).
        starts: Seconds at which windows begin (N,), float64, ascending within a track.
        track: Number of the track of each window (N,), int64, ascending; every track has one.
    """

    ids: tuple[str, ...]
    seconds: Tensor
    values: Tensor
    starts: Tensor
    track: Tensor

    @cached_property
    def moments(self) -> Moments:
        """Moments of all embeddings: from them follow those of the similarities of anything to all of them."""
        n_rows, n_dims = self.values.shape
        mean, second = (torch.zeros(shape, dtype=torch.float64) for shape in ((n_dims,), (n_dims, n_dims)))
        for some in self.values.split(_ROWS):
            exact = some.double()
            mean += exact.sum(0)
            second += exact.T @ exact
        return Moments(n_rows, mean / max(1, n_rows), second / max(1, n_rows))

    def rows(self, number: int) -> slice:
        """Return where the windows of a track are."""
        return self._rows(number, number + 1)

    def between(self, first: int, last: int) -> IndexMatrix:
        """Return the matrix of the tracks from `first` to before `last`, without copying embeddings."""
        rows = self._rows(first, last)
        return IndexMatrix(
            self.ids[first:last],
            self.seconds[first:last],
            self.values[rows],
            self.starts[rows],
            self.track[rows] - first,
        )

    def select(self, tracks: Tensor) -> IndexMatrix:
        """Return the matrix of some tracks alone, by ascending numbers (T',)."""
        wanted = torch.zeros(len(self.ids), dtype=torch.bool)
        wanted[tracks] = True
        kept = wanted[self.track]
        renumbered = wanted.cumsum(0) - 1
        ids = tuple(self.ids[number] for number in tracks.tolist())
        track = renumbered[self.track[kept]]
        return IndexMatrix(ids, self.seconds[tracks], self.values[kept], self.starts[kept], track)

    def _rows(self, first: int, last: int) -> slice:
        return slice(*torch.searchsorted(self.track, torch.tensor([first, last])).tolist())
