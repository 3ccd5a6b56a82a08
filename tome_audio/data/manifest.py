"""Manifests: which clips a data set has, what they are labelled, and which part of it they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tome_audio.data.clips import Clip, DataError, clip_id, find_clips


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip. What is unknown is None.

    Attributes:
        id: Names the clip in logits, reports and tables; unique in its manifest.
        path: The audio file; it may be absent, see `check_manifest`.
        labels: One label, or several in multi-label data.
        split: "train", "valid" or "test".
        fold: Of cross-validation, as the data set numbers them.
        speaker: Who speaks.
        source: The recording that the clip was cut from: clips of one source belong in one split.
        duration: In seconds.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: str | None = None
    fold: int | None = None
    speaker: str | None = None
    source: str | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Manifest:
    """Clips in a fixed order and the classes in the order of a model's outputs.

    Attributes:
        entries: The clips.
        labels: The classes C, by the names that entries use.
        names: The same for people to read; `labels` where none are given.

    Raises:
        DataError: No entries, or an id or a label twice.
    """

    entries: tuple[Entry, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", self.labels)
        if len(self.names) != len(self.labels):
            raise DataError(f"{len(self.labels)} labels have {len(self.names)} names: each needs one")
        if twice := _repeated(self.labels):
            raise DataError(f"the label {twice!r} is listed twice: each class has one place")
        if twice := _repeated(entry.id for entry in self.entries):
            raise DataError(f"the clip id {twice!r} is listed twice: give every clip its own")

    def __len__(self) -> int:
        return len(self.entries)

    def select(self, split: str | None = None, fold: int | None = None) -> Manifest:
        """The entries of one split, of one fold, or of both; the classes stay.

        Raises:
            DataError: There is no such entry.
        """
        chosen = [e for e in self.entries if split in (None, e.split) and fold in (None, e.fold)]
        if not chosen:
            wanted = " and ".join(f"{k} {v!r}" for k, v in (("split", split), ("fold", fold)) if v is not None)
            raise DataError(f"no clip has {wanted}: there are {self.summary()}")
        return replace(self, entries=tuple(chosen))

    def without(self, ids: Collection[str]) -> Manifest:
        """The entries whose ids are not among `ids`; the classes stay."""
        left_out = set(ids)
        return replace(self, entries=tuple(e for e in self.entries if e.id not in left_out))

    def with_labels(self, labels: Sequence[str], names: Sequence[str] = ()) -> Manifest:
        """The same entries under another order of classes, such as that of a pretrained model's outputs.

        Raises:
            DataError: An entry has a label that is not among `labels`.
        """
        changed = replace(self, labels=tuple(labels), names=tuple(names))
        for entry in self.entries:
            changed._indices(entry)
        return changed

    def target(self, number: int) -> Tensor:
        """Labels of one entry as (C,) float32: 1 at every label, 0 elsewhere.

        Raises:
            DataError: It has a label that is no class of the manifest.
        """
        target = torch.zeros(len(self.labels))
        target[self._indices(self.entries[number])] = 1.0
        return target

    def targets(self) -> Tensor:
        """Labels of all entries as (N, C) float32; for two million clips of AudioSet take `target` one by one.

        Raises:
            DataError: A clip has a label that is no class of the manifest.
        """
        targets = [self.target(number) for number in range(len(self))]
        return torch.stack(targets) if targets else torch.zeros(0, len(self.labels))

    def class_indices(self) -> Tensor:
        """Labels as (N,) int64.

        Raises:
            DataError: A clip has no label or several, or one that is no class of the manifest.
        """
        for entry in self.entries:
            if len(entry.labels) != 1:
                raise DataError(f"{entry.id} has {len(entry.labels)} labels where one is needed: use targets()")
        return torch.tensor([self._indices(entry)[0] for entry in self.entries], dtype=torch.int64)

    def summary(self) -> str:
        """Counts of clips per split and the number of classes, in one line."""
        splits = Counter(entry.split or "without split" for entry in self.entries)
        counts = ", ".join(f"{n} {name}" for name, n in sorted(splits.items())) or "no clips"
        return f"{counts}; {len(self.labels)} classes"

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def _indices(self, entry: Entry) -> list[int]:
        try:
            return [self._places[label] for label in entry.labels]
        except KeyError as error:
            raise DataError(f"{entry.id} has the unknown label {error}: check the manifest first") from error


def sorted_labels(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Every label of the entries once, in alphabetical order."""
    return tuple(sorted({label for entry in entries for label in entry.labels}))


def manifest_of_clips(clips: Sequence[Clip], root: str | Path) -> Manifest:
    """Make a manifest of what `find_clips` found below `root`; ids are those of `clip_id`."""
    entries = tuple(
        Entry(clip_id(clip.path, Path(root)), clip.path, (clip.label,), clip.split, speaker=clip.speaker)
        for clip in clips
    )
    return Manifest(entries, sorted_labels(entries))


def find_manifest(folder: str | Path, seed: int = 0, test_part: float = 0.2) -> Manifest:
    """Make a manifest of a folder of any layout that `find_clips` knows, such as one folder per class.

    Raises:
        DataError: See `find_clips`.
    """
    return manifest_of_clips(find_clips(folder, seed, test_part), folder)


def joined(first: Manifest, second: Manifest, name: str) -> Manifest:
    """Return the clips of both; classes of one name are one class, new ones come behind.

    Args:
        first: Whose ids stay.
        second: Whose ids get `name` and a stroke in front where the first has them already.
        name: Of the second.
    """
    taken = {entry.id for entry in first.entries}
    entries = tuple(replace(e, id=f"{name}/{e.id}") if e.id in taken else e for e in second.entries)
    new = [
        (label, shown) for label, shown in zip(second.labels, second.names, strict=True) if label not in first.labels
    ]
    return Manifest(
        (*first.entries, *entries),
        (*first.labels, *(label for label, _ in new)),
        (*first.names, *(shown for _, shown in new)),
    )


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)
