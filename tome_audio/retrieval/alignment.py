"""Stretches of a song laid over originals in every transposition and at every tempo: where do they fit best?

Embeddings say which of thousands of tracks are worth a look; this looks. Pure functions of sketches
(`tome_audio.audio.sketch`), in which a semitone is a bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_EVEN = 250.0  # what stretches without peaks have beside them, in the units of sketches: little is not much of nothing
# Cosines of music that has nothing in common (mean, and deviation from track to track), and how many tracks, or ways,
# that counts for: what a song fits by chance is measured on those at hand, and on this where they are few.
_CHANCE, _SPREAD, _WEIGHT = 0.40, 0.022, 8.0
# The same of what tracks reach: some songs fit everything a little better than others do.
_REACHED, _REACHED_SPREAD = 2.5, 0.43


@dataclass(frozen=True)
class AlignOptions:
    """How the best tracks are looked at.

    Attributes:
        n_tracks: Tracks, the best by their votes; 0 looks at none, and votes decide.
        every: Seconds of the song from one stretch to the next.
        n_stretches: Stretches at most; of a longer song they are farther apart.
        seconds: Length of a stretch.
        together: Stretches that must agree on how the sample was changed: more where they overlap.
        semitones: Lowest and highest transposition.
        tempo: Slowest and fastest tempo ratio.
        n_tempi: Tempo ratios tried, evenly spread on a logarithmic scale.
        reach: Seconds of the original on both sides of the place that was voted for.
        precision: Of products: bf16 is faster on processors that have it, and wrong in the third digit.

    Raises:
        ValueError: A value out of range.
    """

    n_tracks: int = 100
    every: float = 2.5
    n_stretches: int = 48
    seconds: float = 2.5
    together: int = 2
    semitones: tuple[int, int] = (-6, 6)
    tempo: tuple[float, float] = (0.7, 1.5)
    n_tempi: int = 15
    reach: float = 30.0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        """Raise unless the options mean something."""
        if self.n_tracks < 0 or min(self.n_stretches, self.n_tempi, self.together) < 1 or not self.reach >= 0:
            raise ValueError("align.n_tracks and reach must be 0 or more, n_stretches, n_tempi and together at least 1")
        if not (self.seconds > 0 and self.every > 0):
            raise ValueError(f"align.seconds and every must be positive, got {self.seconds} and {self.every}")
        if not 0 < self.tempo[0] <= self.tempo[1] or self.semitones[0] > self.semitones[1]:
            raise ValueError("align.tempo and align.semitones must be a lowest and a highest value, tempo positive")

    @property
    def tempi(self) -> list[float]:
        """The tempo ratios that are tried."""
        low, high = self.tempo
        if self.n_tempi == 1:
            return [math.sqrt(low * high)]
        return [low * (high / low) ** (i / (self.n_tempi - 1)) for i in range(self.n_tempi)]


class Stretches(NamedTuple):
    """Stretches of a song as their originals may sound: W of them, each changed in K = tempi x transpositions ways.

    Attributes:
        starts: Rows of the song (W,).
        n_rows: Rows of a stretch.
        ways: Tempo ratio and semitones of each way; transpositions of one tempo stand together.
        lengths: Rows of each way (K,).
        kernels: (W * K, longest, F).
        norms: (W, K).
    """

    starts: tuple[int, ...]
    n_rows: int
    ways: tuple[tuple[float, int], ...]
    lengths: Tensor
    kernels: Tensor
    norms: Tensor


class Fits(NamedTuple):
    """Cosines of stretches with the part of a track they fit best, and the row where it begins: (W, K) each.

    A cosine is NaN where the track is too short.
    """

    scores: Tensor
    rows: Tensor


class Verdict(NamedTuple):
    """What a song and T tracks have in common: score, and the stretch and the way that fit best, (T,) each."""

    scores: Tensor
    stretches: Tensor
    ways: Tensor


def undone(stretch: Tensor, semitones: int, tempo_ratio: float) -> Tensor:
    """Return how the original of a stretch (T, F) sounds, (T * tempo_ratio, F), float32.

    Args:
        stretch: Of a song's sketch.
        semitones: How much higher the sample sounds in the song.
        tempo_ratio: How much faster it is played there.
    """
    n_rows, n_bins = max(1, round(len(stretch) * tempo_ratio)), stretch.shape[1]
    played = F.interpolate(stretch.float().T[None], size=n_rows, mode="linear", align_corners=False)[0].T
    if abs(semitones) >= n_bins:
        return torch.zeros_like(played)
    kept = played[:, semitones:] if semitones >= 0 else played[:, :semitones]
    return F.pad(kept, (0, semitones) if semitones >= 0 else (-semitones, 0))


def song_stretches(sketch: Tensor, rows_per_second: float, options: AlignOptions) -> Stretches:
    """Cut the sketch (T, F) of a song into stretches, and change each in every way.

    Raises:
        ValueError: An empty sketch.
    """
    if not len(sketch):
        raise ValueError("the sketch of the song is empty")
    n_rows = min(len(sketch), max(1, round(options.seconds * rows_per_second)))
    every = max(1, round(options.every * rows_per_second))
    starts = list(range(0, len(sketch) - n_rows + 1, every))
    if len(starts) > options.n_stretches:
        last = len(sketch) - n_rows
        starts = [round(i * last / max(1, options.n_stretches - 1)) for i in range(options.n_stretches)]
    ways = tuple((ratio, up) for ratio in options.tempi for up in range(options.semitones[0], options.semitones[1] + 1))
    lengths = torch.tensor([max(1, round(n_rows * ratio)) for ratio, _ in ways])
    longest = int(lengths.max())
    kernels = torch.stack([
        F.pad(changed, (0, 0, 0, longest - len(changed)))
        for start in starts
        for changed in (undone(sketch[start : start + n_rows], up, ratio) for ratio, up in ways)
    ])  # fmt: skip
    norms = kernels.square().sum((1, 2)).sqrt().unflatten(0, (len(starts), len(ways)))
    if options.precision == "bf16":
        kernels = kernels.bfloat16()
    return Stretches(tuple(starts), n_rows, ways, lengths, kernels, norms)


def fit(stretches: Stretches, original: Tensor) -> Fits:
    """Lay stretches over every part of an original (R, F); the first of equally good parts is taken."""
    shape, longest = stretches.norms.shape, stretches.kernels.shape[1]
    n_rows, n_bins = original.shape
    if n_rows == 0:
        return Fits(torch.full(shape, torch.nan), torch.zeros(shape, dtype=torch.int64))
    rows = original.float()
    padded = F.pad(rows, (0, 0, 0, longest - 1)).to(stretches.kernels.dtype)
    # Each row with the rows behind it, without copying; then one product of matrices, several times faster than conv1d.
    parts = padded.as_strided((n_rows, longest * n_bins), (n_bins, 1))
    products = (parts @ stretches.kernels.flatten(1).T).float().unflatten(1, shape)  # (R, W, K)
    energy = F.pad(rows.square().sum(1).double().cumsum(0), (1, 0))
    first = torch.arange(n_rows)[:, None]
    last = first + stretches.lengths
    under = (energy[last.clamp_max(n_rows)] - energy[first]).clamp_min(0).sqrt().float()
    scores = products / ((under[:, None] + _EVEN) * (stretches.norms + _EVEN))
    best = scores.masked_fill((last > n_rows)[:, None], -1.0).max(0)
    return Fits(best.values.masked_fill(best.values < 0, torch.nan), best.indices)


def judge(scores: Tensor, n_tempi: int, together: int = 2) -> Verdict:
    """Return what T tracks have in common with a song beyond what any track has.

    Some stretches fit anything. So each cosine is set against those of the other tracks (for the same stretch and way),
    as a deviation from their mean over their standard deviation. And some tracks are fitted by anything, because a beat
    or a chord runs through them, but a sample fits in its own way: what a stretch and a track have in common on the
    average over all ways does not count. A track reaches what the best stretches of the song reach together in one way,
    at neighbouring tempi perhaps, and scores how far that stands out among the other tracks: as a deviation once more,
    so that the scores of two songs can be compared.

    Args:
        scores: Cosines (T, W, K), NaN where nothing could be laid over.
        n_tempi: Tempi among the K ways.
        together: Stretches that count, of those there are.
    """
    known = ~scores.isnan()
    filled, n = scores.nan_to_num(0.0), known.sum(0)
    mean = (filled.sum(0) + _WEIGHT * _CHANCE) / (n + _WEIGHT)
    squares = ((filled - mean).square() * known).sum(0)
    spread = ((squares + _WEIGHT * _SPREAD**2) / (n + _WEIGHT)).sqrt()
    beyond = torch.where(known, (filled - mean) / spread, torch.zeros(()))
    in_any_way = beyond.sum(2, keepdim=True) / (known.sum(2, keepdim=True) + _WEIGHT)
    beyond = torch.where(known, beyond - in_any_way, torch.zeros(()))
    n_tracks, n_stretches, n_ways = scores.shape
    by_tempo = beyond.view(n_tracks * n_stretches, 1, n_tempi, n_ways // n_tempi)
    near = F.max_pool2d(by_tempo, (3, 1), 1, (1, 0)).view_as(beyond)
    agreed = near.topk(min(together, n_stretches), 1).values.mean(1)  # (T, K)
    best = agreed.max(1)
    # The way and the stretch that fit best of those that count for it.
    own = torch.arange(n_ways, device=scores.device)
    alike = (own % (n_ways // n_tempi))[None] == (best.indices % (n_ways // n_tempi))[:, None]
    close = (own // (n_ways // n_tempi))[None] - (best.indices // (n_ways // n_tempi))[:, None]
    counts = (alike & (close.abs() <= 1))[:, None].expand_as(beyond)
    place = beyond.masked_fill(~counts, -torch.inf).flatten(1).argmax(1)
    return Verdict(_standing_out(best.values), place // n_ways, place % n_ways)


def _standing_out(reached: Tensor) -> Tensor:
    off = reached.double() - _REACHED
    n = len(off) - 1 + _WEIGHT
    mean = (off.sum() - off) / n  # of the others, each time
    variance = (off.square().sum() - off.square() + _WEIGHT * _REACHED_SPREAD**2) / n - mean.square()
    return ((off - mean) / variance.sqrt()).float()
