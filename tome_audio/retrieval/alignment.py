"""A stretch of a song laid over an original in every transposition and at every tempo: where does it fit best?

Embeddings say which of thousands of tracks are worth a look; this looks. Pure functions of sketches
(`tome_audio.audio.sketch`), in which a semitone is a bin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_EVEN = 250.0  # what a stretch without peaks has beside them, in the units of sketches: little is not much of nothing


@dataclass(frozen=True)
class AlignOptions:
    """How the best tracks are looked at.

    Attributes:
        n_tracks: Tracks, the best by their votes; 0 looks at none, and votes decide.
        n_windows: Windows of the song, those most like the track.
        seconds: Length of the stretch of each, about its middle.
        semitones: Lowest and highest transposition.
        tempo: Slowest and fastest tempo ratio.
        n_tempi: Tempo ratios tried, evenly spread on a logarithmic scale.
        reach: Seconds of the original on both sides of the place that was voted for.

    Raises:
        ValueError: A value out of range.
    """

    n_tracks: int = 50
    n_windows: int = 4
    seconds: float = 4.0
    semitones: tuple[int, int] = (-6, 6)
    tempo: tuple[float, float] = (0.7, 1.5)
    n_tempi: int = 15
    reach: float = 30.0

    def __post_init__(self) -> None:
        """Raise unless the options mean something."""
        if self.n_tracks < 0 or min(self.n_windows, self.n_tempi) < 1 or not self.seconds > 0 or not self.reach >= 0:
            raise ValueError(
                "align.n_tracks and align.reach must be 0 or more, n_windows and n_tempi at least 1, seconds positive"
            )
        if not 0 < self.tempo[0] <= self.tempo[1] or self.semitones[0] > self.semitones[1]:
            raise ValueError("align.tempo and align.semitones must be a lowest and a highest value, tempo positive")

    @property
    def tempi(self) -> list[float]:
        """The tempo ratios that are tried."""
        low, high = self.tempo
        if self.n_tempi == 1:
            return [math.sqrt(low * high)]
        return [low * (high / low) ** (i / (self.n_tempi - 1)) for i in range(self.n_tempi)]


class Fit(NamedTuple):
    """Where a stretch of a song fits best.

    Attributes:
        score: From 0 to 1: the cosine of the stretch and the part of the original that it lies over.
        row: Of the original, where it begins.
        rows: Length of that part.
        semitones: How much higher the sample sounds in the song.
        tempo_ratio: How much faster it is played in the song.
    """

    score: float
    row: int
    rows: int
    semitones: int
    tempo_ratio: float


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


def best_fit(stretch: Tensor, original: Tensor, semitones: Sequence[int], tempi: Sequence[float]) -> Fit | None:
    """Lay a stretch (T, F) over every part of an original (R, F), in every transposition and at every tempo.

    The first of equally good fits is returned; None where no tempo makes the stretch as short as the original.

    Args:
        stretch: Of a song's sketch.
        original: Sketch of a track, or of a part of it.
        semitones: Transpositions to try.
        tempi: Tempo ratios to try.
    """
    kinds = [(ratio, up) for ratio in tempi for up in semitones if round(len(stretch) * ratio) <= len(original)]
    if not kinds or not len(stretch):
        return None
    laid = [undone(stretch, up, ratio) for ratio, up in kinds]
    lengths = torch.tensor([len(each) for each in laid])
    longest = int(lengths.max())
    kernels = torch.stack([F.pad(each, (0, 0, 0, longest - len(each))) for each in laid])  # (K, longest, F)
    rows = original.float()
    products = F.conv1d(F.pad(rows, (0, 0, 0, longest - 1)).T[None], kernels.transpose(1, 2))[0]  # (K, R)
    energy = F.pad(rows.square().sum(1).double().cumsum(0), (1, 0))
    first = torch.arange(len(rows))
    last = first + lengths[:, None]
    under = (energy[last.clamp_max(len(rows))] - energy[first]).clamp_min(0).sqrt()
    own = kernels.square().sum((1, 2)).sqrt()[:, None]
    scores = products / ((under.float() + _EVEN) * (own + _EVEN))
    scores = scores.masked_fill(last > len(rows), -1.0)
    kind, row = divmod(int(scores.argmax()), len(rows))
    ratio, up = kinds[kind]
    return Fit(float(scores[kind, row]), row, int(lengths[kind]), up, ratio)
