"""A teacher's logits by clip id: a folder of npz shards and one JSON file, without pickles.

`teacher.json` says what the columns are (labels, in order) and where the numbers come from (models, settings,
versions).
Each `logits-*.npz` holds `ids` (n,), `logits` (n, K) in float32 and `marks` (n,), which tell the clips' files from
others of the same name. A shard is written whole or not at all, so a run that was killed loses what it had not yet
written and goes on behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tome_audio.data.clips import DataError

FACTS_NAME = "teacher.json"
_VERSION = 1
_SHARDS = "logits-*.npz"
_MARKED = 2**16  # bytes of a clip's file that are looked at: two seconds of 16 kHz in 16 bits
# What a resumed run must agree in; versions of libraries may change on the way.
_MUST_MATCH = ("version", "labels", "models", "settings")


class TeacherBatch(NamedTuple):
    """`logits` (B, K) in float32 and `known` (B,); rows of clips that are not known hold 0."""

    logits: Tensor
    known: Tensor


def _same(clip_id: str) -> str:
    return clip_id


@dataclass(frozen=True)
class TeacherLogits:
    """Logits (N, K) with the row of every clip id, and the names of their columns.

    `facts` is what `teacher.json` holds beside the labels. `key` turns a clip's id into the one in `rows`, for logits
    made elsewhere under other names.
    """

    labels: tuple[str, ...]
    rows: Mapping[str, int]
    logits: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)
    key: Callable[[str], str] = _same

    def lookup(self, ids: Sequence[str]) -> TeacherBatch:
        """Return the logits of these clips, and which of them the teacher knows."""
        found = [self.rows.get(self.key(clip_id)) for clip_id in ids]
        known = torch.tensor([row is not None for row in found], dtype=torch.bool)
        logits = torch.zeros(len(found), len(self.labels))
        rows = [row for row in found if row is not None]
        logits[known] = torch.from_numpy(np.array(self.logits[rows], dtype=np.float32))
        return TeacherBatch(logits, known)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that the teacher does not know, in the order given."""
        return [clip_id for clip_id in ids if self.key(clip_id) not in self.rows]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise unless the columns are these labels in this order.

        Raises:
            DataError: naming the labels that differ.
        """
        check_same_labels(self.labels, labels, "the teacher's logits", "the student")


def clip_mark(path: Path) -> str:
    """Return what tells a file from another of the same name: its size and a checksum of its beginning.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        beginning = file.read(_MARKED)
        size = os.fstat(file.fileno()).st_size
    return f"{size}-{hashlib.sha256(beginning).hexdigest()[:16]}"


def average_logits(teachers: Sequence[Tensor]) -> Tensor:
    """Return the mean of several teachers' logits, each (B, K).

    Logits are averaged and not probabilities, because the loss divides logits by its temperature: the softmax of the
    mean at temperature T is then the (normalised) geometric mean of the teachers' own softmaxes at T, for any T chosen
    later. The mean of probabilities could not be softened in that way, and rounds what a sure teacher says about the
    other classes to 0. The price is that a teacher with larger logits has more say.

    Raises:
        ValueError: No teachers, or shapes that differ.
    """
    if not teachers or any(logits.shape != teachers[0].shape for logits in teachers):
        raise ValueError(f"teachers must give logits of one shape, got {[tuple(logits.shape) for logits in teachers]}")
    return torch.stack([logits.float() for logits in teachers]).mean(0)


def check_same_labels(first: Sequence[str], second: Sequence[str], first_name: str, second_name: str) -> None:
    """Raise unless both have the same labels in the same order.

    Raises:
        DataError: naming the labels that only one of them has, or the first ones that stand elsewhere.
    """
    if list(first) == list(second):
        return
    only = [
        f"only {name} has {_listed(extra)}"
        for name, extra in (
            (first_name, [label for label in first if label not in set(second)]),
            (second_name, [label for label in second if label not in set(first)]),
        )
        if extra
    ]
    if not only and len(first) == len(second):
        moved = [(i, a, b) for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        only = [", ".join(f"class {i} is {a!r} in {first_name} and {b!r} in {second_name}" for i, a, b in moved[:3])]
    counts = f"{first_name} has {len(first)} labels, {second_name} {len(second)}"
    raise DataError(f"labels differ: {'; '.join(only) or counts}. Both must have the same labels in the same order")


def read_teacher_logits(folder: str | Path, labels: Sequence[str] | None = None) -> TeacherLogits:
    """Read what `TeacherLogitsWriter` wrote, checking its columns against `labels` where they are given.

    Raises:
        DataError: No such folder or nothing in it, a damaged file, a clip that is there twice, or other labels.
    """
    root = Path(folder)
    facts = _read_facts(root)
    ids: list[str] = []
    parts: list[np.ndarray] = []
    for path in _shard_paths(root):
        shard_ids, logits, _ = _read_shard(path, len(facts["labels"]))
        ids += shard_ids
        parts.append(logits)
    if not ids:
        raise DataError(f"{root} holds no logits yet: run `tome-audio teacher-logits` with it as --out again")
    rows = {name: row for row, name in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(name for row, name in enumerate(ids) if rows[name] != row)
        raise DataError(f"{root} holds {twice} twice: delete the folder and write it again, with one process")
    rest = {name: value for name, value in facts.items() if name != "labels"}
    found = TeacherLogits(tuple(facts["labels"]), rows, np.concatenate(parts), rest)
    if labels is not None:
        found.check_labels(labels)
    return found


class TeacherLogitsWriter:
    """Write logits by clip id into a folder, going on where an earlier run stopped. One process per folder.

    A context manager: leaving it writes what is still in memory, also after an error.

    Args:
        folder: Made if need be.
        labels: Names of the columns, in order.
        models: What made the logits, such as names and checksums of checkpoints.
        settings: What else decides the numbers; JSON.
        versions: Of libraries, for the record.
        shard_size: Clips per file; as many are lost at most when a run is killed.

    Raises:
        DataError: The folder holds logits of other models, labels or settings, or a damaged file.
    """

    def __init__(
        self,
        folder: str | Path,
        labels: Sequence[str],
        *,
        models: Sequence[Any],
        settings: Mapping[str, Any],
        versions: Mapping[str, Any] | None = None,
        shard_size: int = 256,
    ) -> None:
        if shard_size < 1:
            raise DataError(f"shard_size must be at least 1, got {shard_size}")
        self.folder, self.n_classes, self.shard_size = Path(folder), len(labels), shard_size
        facts = {"version": _VERSION, "labels": list(labels), "models": list(models), "settings": dict(settings)}
        self._ids: list[str] = []
        self._logits: list[np.ndarray] = []
        self._marks: dict[str, str] = {}
        self.done: set[str] = set()
        """Ids that are stored or waiting to be."""
        if (self.folder / FACTS_NAME).is_file():
            _check_same_run(self.folder, _read_facts(self.folder), json.loads(json.dumps(facts)))
            for path in _shard_paths(self.folder):
                ids, _, marks = _read_shard(path, self.n_classes)
                self.done.update(ids)
                self._marks.update(zip(ids, marks, strict=True))
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({**facts, "versions": dict(versions or {})}, indent=2) + "\n"
            _write_whole(self.folder / FACTS_NAME, lambda file: file.write(text.encode()))
        for leaving in self.folder.glob(".*.part"):  # of a run that was killed while it wrote
            leaving.unlink()

    def check_clips(self, clips: Mapping[str, Path]) -> None:
        """Refuse files, by clip id, that are not those whose logits are stored.

        What has no logits yet, was stored without its file, or cannot be read is not compared.

        Raises:
            DataError: Naming one of them.
        """
        changed = [name for name, path in clips.items() if self._marks.get(name) and _is_other(path, self._marks[name])]
        if changed:
            raise DataError(
                f"{self.folder} holds logits of other files: {len(changed)} of {len(clips)} clips have changed since, "
                f"such as {clips[changed[0]]}: give the data they were made from, or another folder"
            )

    def add(self, ids: Sequence[str], logits: Tensor, paths: Sequence[Path] | None = None) -> None:
        """Take logits (B, K) of clips that are not stored yet.

        Args:
            ids: Of the clips.
            logits: In their order.
            paths: The clips' files, by which `check_clips` knows them again; None stores none.

        Raises:
            DataError: Shapes that do not fit, a clip that is stored already, or logits that are not finite.
            OSError: A file cannot be read.
        """
        marks = [""] * len(ids) if paths is None else [clip_mark(path) for path in paths]
        if logits.shape != (len(ids), self.n_classes):
            raise DataError(f"logits must be ({len(ids)}, {self.n_classes}), got {tuple(logits.shape)}")
        values = logits.detach().cpu().float().numpy()
        for name, row, mark in zip(ids, values, marks, strict=True):
            if name in self.done:
                raise DataError(f"{name} has logits already: clip ids must differ in more than the file extension")
            if not np.isfinite(row).all():
                raise DataError(f"the teacher's logits of {name} are NaN or infinite")
            self.done.add(name)
            self._marks[name] = mark
            self._ids.append(name)
            self._logits.append(row)
            if len(self._ids) >= self.shard_size:
                self.flush()

    def flush(self) -> None:
        """Write what is in memory as one more shard."""
        if not self._ids:
            return
        numbers = [int(path.stem.rpartition("-")[2]) for path in _shard_paths(self.folder)]
        path = self.folder / f"logits-{max(numbers, default=-1) + 1:05d}.npz"
        marks = np.array([self._marks[name] for name in self._ids], dtype=np.str_)
        ids, logits = np.array(self._ids, dtype=np.str_), np.stack(self._logits)
        _write_whole(path, lambda file: np.savez(file, ids=ids, logits=logits, marks=marks))
        self._ids, self._logits = [], []

    def __enter__(self) -> TeacherLogitsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def _check_same_run(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found["labels"] != wanted["labels"]:
        check_same_labels(found["labels"], wanted["labels"], str(folder), "this run")
    changed = [name for name in _MUST_MATCH if found.get(name) != wanted[name]]
    if changed:
        listed = "; ".join(f"{name} were {found.get(name)}, now {wanted[name]}" for name in changed)
        raise DataError(f"{folder} holds logits of another run ({listed}): give another folder, or delete this one")


def _read_facts(root: Path) -> dict[str, Any]:
    path = root / FACTS_NAME
    if not path.is_file():
        raise DataError(f"{root} holds no {FACTS_NAME}: give a folder that `tome-audio teacher-logits` has written")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version, labels = facts["version"], facts["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete the folder and write it again") from error
    if version != _VERSION or not isinstance(labels, list):
        raise DataError(f"{path} has format {version}, and {_VERSION} is known here: update tome_audio")
    return facts


def _shard_paths(root: Path) -> list[Path]:
    return sorted(root.glob(_SHARDS), key=lambda path: (len(path.name), path.name))


def _is_other(path: Path, mark: str) -> bool:
    try:
        return clip_mark(path) != mark
    except OSError:
        return False


def _read_shard(path: Path, n_classes: int) -> tuple[list[str], np.ndarray, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            ids, logits = arrays["ids"].tolist(), arrays["logits"]
            marks = arrays["marks"].tolist() if "marks" in arrays else [""] * len(ids)  # older ones have none
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and run the command again") from error
    if logits.shape != (len(ids), n_classes) or logits.dtype != np.float32 or len(marks) != len(ids):
        raise DataError(f"{path} is damaged (logits {logits.shape} for {len(ids)} ids): delete it and run again")
    return ids, logits, marks


def _write_whole(path: Path, write: Callable[[Any], Any]) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:6])
    return f"{shown} and {len(labels) - 6} more" if len(labels) > 6 else shown
