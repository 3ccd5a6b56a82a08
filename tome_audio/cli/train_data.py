"""From the options of `tome-audio train` to checked clips, their statistics and the items that the trainer takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.audio.features import AstStatistics
from tome_audio.cli.corpora import CorpusConfig, corpus_manifest, with_label_csv, with_validation
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.train_config import ClipsConfig, FeatureConfig
from tome_audio.data.clips import DataError
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.manifest import Manifest
from tome_audio.data.manifest_check import check_manifest
from tome_audio.data.sampling import EpochSampler, balanced_weights
from tome_audio.data.statistics import feature_statistics
from tome_audio.data.training_clips import Answer, Augmentation, ManifestClips
from tome_audio.training.batches import TrainingData

_NAMED = 50
_FOR_STATISTICS = 1000


@dataclass(frozen=True)
class Parts:
    """Usable clips to train on and to validate on, and how many were left out."""

    train: Manifest
    valid: Manifest | None
    n_skipped: int


def is_main_process() -> bool:
    """Whether this process speaks and writes, where a launcher has started several."""
    return int(os.environ.get("RANK", "0")) == 0


def find_parts(data: str, corpus: CorpusConfig, clips: ClipsConfig, report: Path) -> Parts:
    """Read the manifest, look at every clip of train and valid, and set clips apart for validation.

    Args:
        data: Folder of the corpus, or a manifest.
        corpus: Which clips it gives.
        clips: How they are read.
        report: CSV of the clips that cannot be used; written where there are any.

    Raises:
        DataError: There is nothing to train on, or clips cannot be used and are not to be skipped.
    """
    found = with_label_csv(corpus_manifest(corpus, data, clips.label_csv), clips.label_csv)
    entries = [replace(entry, split=entry.split or "train") for entry in found.entries]
    if clips.valid_data is not None:
        valid = corpus_manifest(corpus, clips.valid_data, clips.label_csv)
        entries = [entry for entry in entries if entry.split == "train"]
        entries += [replace(entry, split="valid") for entry in valid.entries]
    found = replace(found, entries=tuple(entries))
    wanted = replace(found, entries=tuple(entry for entry in found.entries if entry.split in ("train", "valid")))
    if not any(entry.split == "train" for entry in wanted.entries):
        raise DataError(f"{data} has no clip to train on: there are {found.summary()}")
    usable, n_skipped = usable_clips(wanted, report, skip_unusable=clips.skip_unusable) if clips.check else (wanted, 0)
    usable = with_validation(usable, clips.valid_part, clips.valid_by, corpus.seed)
    valid_part = usable.select("valid") if any(entry.split == "valid" for entry in usable.entries) else None
    return Parts(usable.select("train"), valid_part, n_skipped)


def usable_clips(
    wanted: Manifest, report: Path, *, skip_unusable: bool, group: str = "clips", what: str = "training"
) -> tuple[Manifest, int]:
    """Return the clips that can be used, each decoded, and how many cannot.

    Args:
        wanted: The clips.
        report: CSV of those that cannot be used; written where there are any.
        skip_unusable: Go on without them.
        group: Of options that skip_unusable belongs to.
        what: Goes on without them.

    Raises:
        DataError: Clips cannot be used and are not to be skipped.
    """
    with progress() as bars:
        task = bars.add_task("check", total=len(wanted))
        found = check_manifest(
            wanted, n_threads=os.cpu_count() or 1, on_progress=lambda done, _: bars.update(task, completed=done)
        )
    if not found.problems:
        return found.usable, 0
    if is_main_process():
        report.parent.mkdir(parents=True, exist_ok=True)
        found.write_csv(report)
        for line in found.text(_NAMED).splitlines():
            warn(line)
    if not skip_unusable:
        raise DataError(
            f"{found.n_skipped} of {found.n_checked} clips cannot be used; all are listed in {report}: repair them, or "
            f"go on without them with --{group}.skip_unusable true"
        )
    if is_main_process():
        warn(f"skipped {found.n_skipped} of {found.n_checked} clips; {what} goes on with {len(found.usable)}")
    return found.usable, found.n_skipped


def find_statistics(features: FeatureConfig, train: Manifest, seed: int) -> AstStatistics:
    """Return the statistics that are given, or measure them on training clips, 1000 at most.

    Raises:
        ValueError: One of the two is given and the other not, or the clips are silent.
    """
    if (features.mean is None) != (features.std is None):
        raise ValueError("give both features.mean and features.std, or neither to have them measured")
    if features.mean is not None and features.std is not None:
        return AstStatistics(features.n_frames, features.mean, features.std)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:_FOR_STATISTICS]
    waveforms: list[Tensor] = [read_audio(train.entries[i].path) for i in sorted(order.tolist())]
    found = feature_statistics(waveforms, features.n_frames, n_mels=features.n_mels)
    if is_main_process():
        console().print(f"features of {len(waveforms)} clips: mean {found.mean:.4f}, std {found.std:.4f}")
    return found


def make_data(
    parts: Parts,
    clips: ClipsConfig,
    features: FeatureConfig,
    augment: Augmentation,
    statistics: AstStatistics,
    answer: Answer | None,
    seed: int,
) -> TrainingData:
    """Return what the trainer trains on and scores, and the order of clips where it is a balanced one."""
    cache = None
    if clips.cache is not None:
        cache = FeatureCache(clips.cache, {"n_frames": features.n_frames, "n_mels": features.n_mels, "rate": 16000})
    make: Callable[..., ManifestClips] = lambda manifest, **options: ManifestClips(  # noqa: E731
        manifest, statistics, n_mels=features.n_mels, multi_label=clips.multi_label, in_memory=clips.in_memory,
        cache=cache, **options,
    )  # fmt: skip
    order = None
    if clips.balanced:
        weights = balanced_weights([entry.labels for entry in parts.train.entries])
        order = EpochSampler(len(parts.train), seed, weights)
    train = make(parts.train, augmentation=augment, answer=answer)
    return TrainingData(train, None if parts.valid is None else make(parts.valid), order)
