"""Set clips apart for validation so that no recording and no speaker is on both sides."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest

GROUPS = ("source", "speaker", "id")


def set_apart(manifest: Manifest, part: float, *, by: str = "source", seed: int = 0) -> Manifest:
    """Move about `part` of every class from "train" to "valid", whole groups of clips at a time.

    Every class keeps a group in train; a class of one group gives none. Groups are large, so parts are not exact.

    Args:
        manifest: Entries of other splits stay as they are.
        part: Of each class, in (0, 1).
        by: What clips of one group share: "source", "speaker", or "id" for clips one by one. A clip without a
            known source or speaker is a group of its own.
        seed: Of the draw.

    Raises:
        DataError: A setting out of range, or nothing to set apart.
    """
    if not 0 < part < 1 or by not in GROUPS:
        raise DataError(f"set_apart needs a part in (0, 1) and by one of {', '.join(GROUPS)}; got {part} and {by!r}")
    train = [entry for entry in manifest.entries if entry.split == "train"]
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))  # label, group: clips
    classes: dict[str, set[str]] = defaultdict(set)
    for entry in train:
        group = _group(entry, by)
        classes[group].update(entry.labels)
        for label in entry.labels:
            sizes[label][group] += 1
    moved: set[str] = set()
    rng = np.random.default_rng(seed)
    for label in sorted(sizes):
        own = sizes[label]
        wanted = max(1, round(part * sum(own.values())))
        for group in rng.permutation(sorted(own)).tolist():
            if sum(own[g] for g in moved & own.keys()) >= wanted:
                break
            if all(sizes[other].keys() - moved - {group} for other in classes[group]):
                moved.add(group)
    if not moved:
        raise DataError(f"nothing in train can be set apart by {by}: every class has one {by} only")
    return replace(manifest, entries=tuple(_moved(entry, moved, by) for entry in manifest.entries))


def _group(entry: Entry, by: str) -> str:
    # The marks keep a source "7" and an id "7" apart.
    known = getattr(entry, by)
    return f"id:{entry.id}" if known is None else f"{by}:{known}"


def _moved(entry: Entry, moved: set[str], by: str) -> Entry:
    return replace(entry, split="valid") if entry.split == "train" and _group(entry, by) in moved else entry
