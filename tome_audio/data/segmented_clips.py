"""Clips of a manifest as one or more segments each, in the form an encoder takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.manifest import Manifest


class ClipFeatures(Protocol):
    """A front end: `FrontEnd`, or what a classifier brings."""

    def segments(self, waveform: Tensor) -> Tensor:
        """Cut a waveform (T,) into segments (S, T')."""
        ...

    def features(self, waveforms: Tensor | Sequence[Tensor]) -> Tensor:
        """Turn waveforms (B, T') into features (B, T, F)."""
        ...


class Segments(Protocol):
    """Segments of clips by number: spectrograms (T, F), or embeddings (D,) of an encoder that stays as it is."""

    def one(self, number: int, chosen: random.Random) -> Tensor:
        """Return one segment of a clip, at random."""
        ...


class SegmentedClips:
    """The segments of a manifest's clips as normalised features.

    Args:
        manifest: Checked: every clip can be read.
        front_end: What makes features of waveforms.
        in_memory: Keep features and waveforms.
        cache: Keeps features on disk, by its own settings.
    """

    def __init__(
        self, manifest: Manifest, front_end: ClipFeatures, *, in_memory: bool = False, cache: FeatureCache | None = None
    ) -> None:
        self.manifest, self.front_end, self.cache = manifest, front_end, cache
        self._features: dict[int, Tensor] | None = {} if in_memory else None
        self._waveforms: dict[int, Tensor] | None = {} if in_memory else None

    def __len__(self) -> int:
        return len(self.manifest)

    def waveforms(self, number: int) -> Tensor:
        """Return all segments of a clip as waveforms (S, T)."""
        return self.front_end.segments(_kept(self._waveforms, number, lambda: self._read(number)))

    def features(self, number: int) -> Tensor:
        """Return all segments of a clip as features (S, T, F)."""
        return _kept(self._features, number, lambda: self._found(number))

    def one(self, number: int, chosen: random.Random) -> Tensor:
        """Return the features (T, F) of one segment of a clip, at random; no others are computed that are not kept."""
        if self._features is None and self.cache is None:
            return self.front_end.features(drawn(self.waveforms(number), chosen)[None])[0]
        return drawn(self.features(number), chosen)

    def _found(self, number: int) -> Tensor:
        if self.cache is None:
            return self._computed(number)
        return self.cache.get(self.manifest.entries[number].path, lambda: self._computed(number))

    def _computed(self, number: int) -> Tensor:
        return self.front_end.features(self.front_end.segments(self._read(number)))

    def _read(self, number: int) -> Tensor:
        return read_audio(self.manifest.entries[number].path)


class EmbeddedSegments:
    """Segments as an encoder has embedded them: what a frozen encoder says need not be asked in every episode.

    Args:
        embeddings: (S, D) of all segments.
        clip: (S,) which clip each is of, in rising order, every clip from 0 on being there.
    """

    def __init__(self, embeddings: Tensor, clip: Tensor) -> None:
        counts = torch.bincount(clip)
        if len(clip) != len(embeddings) or not bool((counts > 0).all()) or not bool((clip.diff() >= 0).all()):
            raise ValueError("every clip needs at least one embedded segment, and segments the order of their clips")
        self._parts = embeddings.split(counts.tolist())

    def __len__(self) -> int:
        return len(self._parts)

    def features(self, number: int) -> Tensor:
        """Return the embeddings of a clip's segments (S, D)."""
        return self._parts[number]

    def one(self, number: int, chosen: random.Random) -> Tensor:
        """Return the embedding (D,) of one segment of a clip, at random."""
        return drawn(self._parts[number], chosen)


def drawn(parts: Tensor, chosen: random.Random) -> Tensor:
    """Return one of several parts (S, ...), and draw nothing where there is one."""
    return parts[chosen.randrange(len(parts))] if len(parts) > 1 else parts[0]


def _kept(kept: dict[int, Tensor] | None, number: int, make: Callable[[], Tensor]) -> Tensor:
    if kept is None:
        return make()
    if number not in kept:
        kept[number] = make()
    return kept[number]
