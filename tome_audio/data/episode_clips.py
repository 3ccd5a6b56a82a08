"""Episodes as items for the trainer: the clips of each, as segments and views."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from tome_audio.data.episodes import ClassMembers, EpisodeShape
from tome_audio.data.segmented_clips import SegmentedClips, Segments, drawn

FeatureViews = Callable[[Tensor, torch.Generator], Tensor]
"""Features (B, T, F) to views of them (B, V, T, F), the first as it was."""
WaveformViews = Callable[[Tensor, torch.Generator], Tensor]
"""A waveform (T,) to views of it (V, T), the first as it was."""


@dataclass(frozen=True)
class Views:
    """What is seen of a clip beside the clip itself; at most one of the two.

    Attributes:
        of_features: Masked and warped spectrograms.
        of_waveforms: Augmented waveforms.
        support: Whether clips to learn from have them.
        query: Whether clips to be asked have them.
    """

    of_features: FeatureViews | None = None
    of_waveforms: WaveformViews | None = None
    support: bool = True
    query: bool = False

    def __post_init__(self) -> None:
        if self.of_features is not None and self.of_waveforms is not None:
            raise ValueError("views are of features or of waveforms: choose one")


class EpisodeClips:
    """Episodes by number: `support` (N, k, V, T, F), `query` (N, q, V', T, F) and `classes` (N,).

    A clip of several segments gives one of them, at random. `draw` draws anew, and an index always gives the same
    episode: those for validation. V is 1 without views. Segments that are embedded already give (N, k, 1, D).

    Args:
        clips: Segments of the clips.
        members: The clips of each class.
        shape: Of the episodes.
        n_episodes: How many there are, in an epoch or to validate on.
        seed: Of the fixed episodes.
        views: What else is seen of a clip.

    Raises:
        DataError: A class has too few clips, or there are too few classes.
    """

    def __init__(
        self,
        clips: Segments,
        members: ClassMembers,
        shape: EpisodeShape,
        n_episodes: int,
        *,
        seed: int = 0,
        views: Views | None = None,
    ) -> None:
        members.check(shape)
        self.clips, self.members, self.shape = clips, members, shape
        self.n_episodes, self.seed, self.views = n_episodes, seed, views or Views()

    def __len__(self) -> int:
        return self.n_episodes

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the episode of this number, always the same."""
        return self.draw(index, torch.Generator().manual_seed(self.seed * 1_000_003 + index))

    def draw(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return an episode that the generator alone decides on."""
        found = self.members.draw(self.shape, 1, generator)
        segment_seed = int(torch.randint(2**31, (), generator=generator))
        chosen = random.Random(segment_seed)
        item: dict[str, Tensor] = {"classes": found.classes[0]}
        for name, numbers, has_views in (
            ("support", found.support[0], self.views.support),
            ("query", found.query[0], self.views.query),
        ):
            seen = self._seen([int(n) for n in numbers.flatten()], chosen, has_views, generator)
            item[name] = seen.unflatten(0, tuple(numbers.shape))
        return item

    def _seen(self, numbers: list[int], chosen: random.Random, has_views: bool, generator: torch.Generator) -> Tensor:
        # (B, V, T, F), or (B, 1, D) of embedded segments.
        views = self.views
        if has_views and views.of_waveforms is not None:
            clips: Any = cast(SegmentedClips, self.clips)
            waveforms = [drawn(clips.waveforms(number), chosen) for number in numbers]
            # A list: the segments of "fbank" are whole clips, of different lengths.
            seen = [view for waveform in waveforms for view in views.of_waveforms(waveform, generator)]
            return clips.front_end.features(seen).unflatten(0, (len(waveforms), -1))
        features = torch.stack([self.clips.one(number, chosen) for number in numbers])
        if has_views and views.of_features is not None:
            return views.of_features(features, generator)
        return features.unsqueeze(1)
