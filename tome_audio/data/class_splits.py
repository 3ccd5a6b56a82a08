"""Which classes a few-shot model learns from, chooses by and is tested on: never the same ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Manifest

_PARTS = ("train", "valid", "test")
_NAMED = 5


@dataclass(frozen=True)
class ClassSplit:
    """Classes of three parts, by name; a class belongs to one part at most.

    Raises:
        DataError: A class stands in two parts, or twice in one.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for part in _PARTS:
            for name in getattr(self, part):
                if name in seen:
                    raise DataError(
                        f"the class {name!r} is in {seen[name]} and in {part}: what is tested must be new to the model"
                    )
                seen[name] = part


def read_class_split(path: str | Path) -> ClassSplit:
    """Read a split in MetaAudio's format: a JSON object with lists of class names under train, val and test.

    Heggan et al., 2022, arXiv 2204.02121.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    file = Path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"there is no class split {file}: give a JSON file with lists of classes under train, val and test, as "
            "MetaAudio publishes them"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a class split: {error}") from error
    given = found if isinstance(found, dict) else {}
    names = {"train": "train", "valid" if "valid" in given else "val": "valid", "test": "test"}
    parts: dict[str, Any] = {part: given.get(key) for key, part in names.items()}
    for key, part in names.items():
        own = parts[part]
        if not isinstance(own, list) or not all(isinstance(name, str) for name in own):
            raise DataError(f"{file} has no list of class names under {key!r}: a class split needs train, val and test")
    return ClassSplit(**{part: tuple(own) for part, own in parts.items()})


def draw_class_split(labels: Sequence[str], n_valid: int, n_test: int, seed: int) -> ClassSplit:
    """Draw disjoint classes: n_valid and n_test of them, and all others to train on.

    Raises:
        DataError: Nothing would be left to train on.
    """
    if n_valid < 0 or n_test < 0 or n_valid + n_test >= len(labels):
        raise DataError(
            f"{len(labels)} classes cannot give {n_valid} to validate on, {n_test} to test on and others to train on"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = [labels[i] for i in order]
    valid, test = sorted(drawn[:n_valid]), sorted(drawn[n_valid : n_valid + n_test])
    return ClassSplit(tuple(sorted(drawn[n_valid + n_test :])), tuple(valid), tuple(test))


def apply_class_split(manifest: Manifest, split: ClassSplit) -> Manifest:
    """Return the clips whose class is in a part of the split, in that part; other clips are left out.

    Raises:
        DataError: A class of the split has no clip, or a clip has several labels.
    """
    part_of = {name: part for part in _PARTS for name in getattr(split, part)}
    kept = keep_classes(manifest, tuple(part_of))
    return replace(kept, entries=tuple(replace(entry, split=part_of[entry.labels[0]]) for entry in kept.entries))


def keep_classes(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    """Return the clips of these classes, in the splits they are in; the classes keep the manifest's order.

    Raises:
        DataError: A class has no clip, or a clip has several labels.
    """
    wanted = set(classes)
    there = {label for entry in manifest.entries for label in entry.labels}
    if lacking := [name for name in classes if name not in there]:
        known = ", ".join(sorted(there)[:_NAMED])
        raise DataError(
            f"{len(lacking)} classes of the split have no clip, such as {', '.join(lacking[:_NAMED])}: the data has "
            f"{len(there)} classes, such as {known}. Use the split of this data set, or spell its classes alike"
        )
    for entry in manifest.entries:
        if len(entry.labels) != 1:
            raise DataError(f"{entry.id} has {len(entry.labels)} labels: an episode needs clips of one class each")
    order = [i for i, label in enumerate(manifest.labels) if label in wanted]
    return replace(
        manifest,
        entries=tuple(entry for entry in manifest.entries if entry.labels[0] in wanted),
        labels=tuple(manifest.labels[i] for i in order),
        names=tuple(manifest.names[i] for i in order),
    )
