"""From the options of `tome-audio fewshot` to clips, views and episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.audio.front_end import FrontEnd, measured
from tome_audio.audio.spectrum_facts import SPECTRUM_FACTS, SpectrumFacts, spectrum_facts
from tome_audio.audio.views import SpecViews
from tome_audio.audio.waveform_augment import WaveformAugmentation, WaveformViews
from tome_audio.cli.corpora import CorpusConfig, corpus_manifest
from tome_audio.cli.fewshot.config import (
    AudioConfig,
    ClassesConfig,
    EpisodesConfig,
    ReadingConfig,
    ViewsConfig,
)
from tome_audio.cli.output import console
from tome_audio.cli.train_data import is_main_process, usable_clips
from tome_audio.data.class_splits import apply_class_split, draw_class_split, read_class_split
from tome_audio.data.clips import DataError
from tome_audio.data.episode_clips import EpisodeClips, Views
from tome_audio.data.episodes import ClassMembers, EpisodeShape
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.manifest import Manifest
from tome_audio.data.segmented_clips import EmbeddedSegments, SegmentedClips

_FOR_STATISTICS = 1000
_FOR_SPECTRUM = 200


@dataclass(frozen=True)
class UsableClips:
    """Clips with a part each, all of which can be read, and how many were left out."""

    manifest: Manifest
    n_skipped: int

    def part(self, name: str) -> Manifest | None:
        """Return the clips of a part with the classes they have, or None where it has none."""
        if not any(entry.split == name for entry in self.manifest.entries):
            return None
        found = self.manifest.select(name)
        own = {entry.labels[0] for entry in found.entries}
        return replace(found, labels=tuple(label for label in found.labels if label in own), names=())


def find_clips(
    data: str, corpus: CorpusConfig, classes: ClassesConfig, audio: ReadingConfig, report: Path, parts: Sequence[str]
) -> UsableClips:
    """Return the clips of these parts, each looked at.

    Args:
        data: Folder of labelled clips, or a manifest.
        corpus: Which clips it gives.
        classes: Which classes belong to which part.
        audio: How clips are read.
        report: CSV of the clips that cannot be used; written where there are any.
        parts: train, valid, test; there must be clips of the first.

    Raises:
        DataError: There is nothing of the first part, or clips cannot be used and are not to be skipped.
    """
    found = split_classes(corpus_manifest(corpus, data), classes)
    kept = tuple(entry for entry in found.entries if entry.split in parts)
    if not any(entry.split == parts[0] for entry in kept):
        raise DataError(f"{data} has no clip of split {parts[0]}: there are {found.summary()}")
    for entry in kept:
        if len(entry.labels) != 1:
            raise DataError(f"{entry.id} has {len(entry.labels)} labels: an episode needs clips of one class each")
    wanted = replace(found, entries=kept)
    if not audio.check:
        return UsableClips(wanted, 0)
    return UsableClips(*usable_clips(wanted, report, skip_unusable=audio.skip_unusable, group="audio", what="it"))


def split_classes(manifest: Manifest, classes: ClassesConfig) -> Manifest:
    """Return the clips with the parts that their classes are in; the data's own parts where classes are not split.

    Raises:
        DataError: The split cannot be read or does not fit, or there are too few classes.
    """
    if classes.split is not None:
        return apply_class_split(manifest, read_class_split(classes.split))
    if classes.n_valid or classes.n_test:
        there = {label for entry in manifest.entries for label in entry.labels}
        drawn = draw_class_split(
            [label for label in manifest.labels if label in there], classes.n_valid, classes.n_test, classes.seed
        )
        return apply_class_split(manifest, drawn)
    return manifest


def find_front_end(audio: AudioConfig, train: Manifest, seed: int) -> FrontEnd:
    """Return the front end with the statistics that are given, or measured on training clips, 1000 at most.

    Raises:
        ValueError: One of the two is given and the other not, or the clips are silent.
    """
    if (audio.mean is None) != (audio.std is None):
        raise ValueError("give both audio.mean and audio.std, or neither to have them measured")
    bare = FrontEnd(audio.front_end, audio.n_frames, audio.n_mels, legacy_repeat=audio.legacy_repeat)
    if audio.mean is not None and audio.std is not None:
        return replace(bare, mean=audio.mean, std=audio.std)
    waveforms = _sample(train, _FOR_STATISTICS, seed)
    found = measured(bare, waveforms)
    if is_main_process():
        console().print(f"features of {len(waveforms)} clips: mean {found.mean:.4f}, std {found.std:.4f}")
    return found


def _sample(manifest: Manifest, n_clips: int, seed: int) -> list[Tensor]:
    order = torch.randperm(len(manifest), generator=torch.Generator().manual_seed(seed))[:n_clips]
    return [read_audio(manifest.entries[i].path) for i in sorted(order.tolist())]


def segmented(manifest: Manifest, front_end: FrontEnd, audio: AudioConfig) -> SegmentedClips:
    """Return the clips of a manifest as segments."""
    cache = None if audio.cache is None else FeatureCache(audio.cache, front_end.facts())
    return SegmentedClips(manifest, front_end, in_memory=audio.in_memory, cache=cache)


def find_spectrum(views: ViewsConfig, train: Manifest, seed: int) -> SpectrumFacts | None:
    """Return the spectrum that bounds the augmentation of waveforms: that of views.data, or measured on training clips.

    None where no waveform is augmented.

    Raises:
        ValueError: The clips are silent.
    """
    if views.kind != "waveform":
        return None
    return spectrum_facts(_sample(train, _FOR_SPECTRUM, seed)) if views.data is None else SPECTRUM_FACTS[views.data]


def make_views(views: ViewsConfig, spectrum: SpectrumFacts | None, *, testing: bool) -> Views:
    """Return which views clips have, in training or in validation and test; `spectrum` is that of `find_spectrum`.

    Raises:
        ValueError: Options out of range.
        ImportError: audiomentations is absent and waveforms are to be augmented.
    """
    on = (views.test_support, views.test_query) if testing else (views.train_support, views.train_query)
    if views.kind == "spec":
        made = SpecViews(
            mask_param=views.mask_param, p=views.p, num_mask=views.num_mask, W=views.warp,
            mask_value=views.mask_value, shared=views.shared,
        )  # fmt: skip
        return Views(of_features=made, support=on[0], query=on[1])
    if spectrum is not None:
        options = WaveformAugmentation(spectrum, reversal=views.reversal, stretch=views.stretch)
        return Views(of_waveforms=WaveformViews(options, views.n_views), support=on[0], query=on[1])
    return Views(support=False, query=False)


def shapes(episodes: EpisodesConfig) -> tuple[EpisodeShape, EpisodeShape]:
    """Return the shape of episodes to train on, and of those to validate on.

    Raises:
        ValueError: A number out of range.
    """
    train = EpisodeShape(episodes.n_way, episodes.k_shot, episodes.n_query)
    given = {name: getattr(episodes, f"valid_{name}") for name in ("n_way", "k_shot", "n_query")}
    return train, replace(train, **{name: value for name, value in given.items() if value is not None})


def check_episodes(found: UsableClips, episodes: EpisodesConfig) -> None:
    """Refuse clips that cannot give the episodes, before anything is computed of them.

    Raises:
        DataError: There are too few classes, or a class has too few clips; the part is named.
        ValueError: A number out of range.
    """
    names = ("train", "training part"), ("valid", "validation part")
    for (name, what), shape in zip(names, shapes(episodes), strict=True):
        own = found.part(name)
        if own is not None and (name == "train" or episodes.valid):
            class_members(own).check(shape, what)


def class_members(manifest: Manifest) -> ClassMembers:
    """Return the clips of every class of a part."""
    return ClassMembers([entry.labels[0] for entry in manifest.entries])


def make_episodes(
    clips: SegmentedClips | EmbeddedSegments, manifest: Manifest, shape: EpisodeShape, n_episodes: int, seed: int,
    views: Views,
) -> EpisodeClips:  # fmt: skip
    """Return episodes of a part of the data.

    Raises:
        DataError: There are too few classes, or a class has too few clips.
    """
    return EpisodeClips(clips, class_members(manifest), shape, n_episodes, seed=seed, views=views)
