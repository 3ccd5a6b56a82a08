"""Manifests as files: our CSV, AST's JSON datafiles, and AST's label CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tome_audio.data.clips import SPLITS, DataError, clip_id
from tome_audio.data.manifest import Entry, Manifest, sorted_labels
from tome_audio.data.whole_file import whole_file

COLUMNS = ("id", "path", "labels", "split", "fold", "speaker", "source", "duration")
"""Of our CSV. `path` and `labels` are needed; without `id`, `clip_id` gives it."""
LABEL_COLUMNS = ("index", "mid", "display_name")
MANIFEST_NAME, LABELS_NAME = "manifest.csv", "labels.csv"
"""The tables of a folder that holds a manifest."""


class Labels(NamedTuple):
    """Classes in the order of a model's outputs, and their names for people."""

    labels: tuple[str, ...]
    names: tuple[str, ...]


def read_label_csv(path: str | Path) -> Labels:
    """Read AST's label CSV: columns index, mid and display_name, index counting up from 0.

    Raises:
        DataError: Not such a file.
    """
    rows = [row for _, row in _rows(Path(path), LABEL_COLUMNS)]
    if not rows or [row["index"] for row in rows] != [str(i) for i in range(len(rows))]:
        raise DataError(f"{path}: the column index must count 0, 1, 2, ... so that it is the place of a class")
    return Labels(tuple(row["mid"] for row in rows), tuple(row["display_name"] for row in rows))


def write_label_csv(manifest: Manifest, path: str | Path) -> None:
    """Write the classes of a manifest as AST's label CSV, whole or not at all."""
    rows = [[str(i), *pair] for i, pair in enumerate(zip(manifest.labels, manifest.names, strict=True))]
    _write_csv(Path(path), [list(LABEL_COLUMNS), *rows])


def read_ast_json(
    path: str | Path,
    label_csv: str | Path,
    *,
    root: str | Path | None = None,
    old_root: str | None = None,
    split: str | None = None,
) -> Manifest:
    """Read an AST datafile, {"data": [{"wav": path, "labels": "mid,mid"}]}, and its label CSV.

    Lines before the JSON that begin with # are skipped. The id is `video_id` where there is one, otherwise that
    of `clip_id`. Files and labels are not looked up: see `check_manifest`.

    Args:
        path: The JSON file.
        label_csv: See `read_label_csv`.
        root: Folder that relative paths start from; the JSON's own unless given.
        old_root: Beginning of absolute paths that `root` takes the place of: where the audio was when the file was
            written.
        split: Put every clip in this split.

    Raises:
        DataError: Not such a file, or a clip twice.
    """
    labels = read_label_csv(label_csv)
    folder = Path(path).parent if root is None else Path(root)
    entries = []
    for number, item in enumerate(_ast_items(Path(path)), start=1):
        wav, mids = item.get("wav"), item.get("labels")
        if not isinstance(wav, str) or not isinstance(mids, str) or not wav:
            raise DataError(f"{path}: item {number} needs wav and labels, both texts")
        file = _placed(wav, folder, old_root)
        own = tuple(mid.strip() for mid in mids.split(",") if mid.strip())
        entries.append(Entry(str(item.get("video_id") or clip_id(file, folder)), file, own, split))
    return Manifest(tuple(entries), labels.labels, labels.names)


def write_ast_json(manifest: Manifest, path: str | Path) -> None:
    """Write the clips as an AST datafile with absolute paths, whole or not at all.

    Raises:
        DataError: A label holds a comma, which separates labels there.
    """
    items = []
    for entry in manifest.entries:
        if bad := [label for label in entry.labels if "," in label]:
            raise DataError(f"the label {bad[0]!r} holds a comma, which separates labels in AST's JSON: use its mid")
        items.append({"video_id": entry.id, "wav": str(entry.path.resolve()), "labels": ",".join(entry.labels)})
    with whole_file(Path(path)) as partial:
        partial.write_text(json.dumps({"data": items}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest_csv(
    path: str | Path, *, label_csv: str | Path | None = None, root: str | Path | None = None
) -> Manifest:
    """Read a CSV with the columns path and labels and any others of `COLUMNS`.

    Several labels are one CSV row in their field: `"/m/09x0r,/m/04rlf"`; a label with a comma is in quotes there.

    Args:
        path: The CSV file.
        label_csv: Gives the order of classes; without it they are sorted by name.
        root: Folder that relative paths start from; the CSV's own unless given.

    Raises:
        DataError: Not such a file, a value that cannot be read, or a clip twice.
    """
    folder = Path(path).parent if root is None else Path(root)
    entries = tuple(_entry(f"{path}, line {line}", row, folder) for line, row in _rows(Path(path), ("path", "labels")))
    if label_csv is None:
        return Manifest(entries, sorted_labels(entries))
    return Manifest(entries, *read_label_csv(label_csv))


def write_manifest_csv(manifest: Manifest, path: str | Path, *, root: str | Path | None = None) -> None:
    """Write the clips as our CSV, whole or not at all; paths below `root` (the CSV's folder) become relative."""
    folder = (Path(path).parent if root is None else Path(root)).resolve()
    rows = [list(COLUMNS)]
    for entry in manifest.entries:
        file = entry.path.resolve()
        shown = file.relative_to(folder) if file.is_relative_to(folder) else file
        values = (entry.split, entry.fold, entry.speaker, entry.source, entry.duration)
        rows.append([entry.id, shown.as_posix(), _joined(entry.labels), *("" if v is None else str(v) for v in values)])
    _write_csv(Path(path), rows)


def write_manifest_folder(manifest: Manifest, folder: str | Path) -> None:
    """Write labels.csv and manifest.csv into a folder; the second comes last and makes it a manifest's."""
    write_label_csv(manifest, Path(folder) / LABELS_NAME)
    write_manifest_csv(manifest, Path(folder) / MANIFEST_NAME)


def _entry(where: str, row: dict[str, str], folder: Path) -> Entry:
    if not row["path"]:
        raise DataError(f"{where}: there is no path")
    file = _placed(row["path"], folder, None)
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise DataError(f"{where}: split {split!r} is not one of {', '.join(SPLITS)}")
    labels = tuple(next(csv.reader(io.StringIO(row["labels"], newline="")), []))
    fold, duration = row.get("fold") or None, row.get("duration") or None
    try:
        seconds = None if duration is None else float(duration)
        number = None if fold is None else int(fold)
    except ValueError as error:
        raise DataError(f"{where}: fold must be a whole number and duration seconds ({error})") from error
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise DataError(f"{where}: duration {duration} is not a length in seconds")
    return Entry(
        row.get("id") or clip_id(file, folder), file, labels, None if split is None else SPLITS[split], number,
        row.get("speaker") or None, row.get("source") or None, seconds,
    )  # fmt: skip


def _placed(written: str, folder: Path, old_root: str | None) -> Path:
    path = Path(written)
    if old_root is not None and path.is_relative_to(old_root):
        path = path.relative_to(old_root)
    return path if path.is_absolute() else folder / path


def _ast_items(path: Path) -> list[dict[str, Any]]:
    lines = _text(path).splitlines(keepends=True)
    comments = 0
    while comments < len(lines) and (not lines[comments].strip() or lines[comments].lstrip().startswith("#")):
        comments += 1
    try:
        data = json.loads("".join(lines[comments:]))
    except ValueError as error:
        raise DataError(f"{path} is not JSON after {comments} lines of comment: {error}") from error
    items = data.get("data") if isinstance(data, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f'{path} is not an AST datafile: needs {{"data": [{{"wav": ..., "labels": ...}}]}}')
    return items


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    # Line numbers and rows; what a short row lacks is empty.
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restval="", strict=True)
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} has no column {' or '.join(missing)}: needs {', '.join(needed)}")
        for row in reader:
            if None in row:
                raise DataError(f"{path}, line {reader.line_num}: more values than columns: quote values with commas")
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error


def _joined(values: Sequence[str]) -> str:
    # One row without its end. Of line breaks inside values only those that may end a row are quoted: both are named.
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n")


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{_joined(row)}\n" for row in rows)
