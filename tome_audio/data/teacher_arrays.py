"""Teacher logits made elsewhere: one `.npy` array and an index from clip name to row."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from tome_audio.data.clips import DataError
from tome_audio.data.teacher_logits import TeacherLogits

_YOUTUBE_ID = 11


def audioset_key(clip_id: str) -> str:
    """Return the YouTube id of an AudioSet clip: `balanced/Yabc_defghij.wav` becomes `abc_defghij`."""
    name = PurePosixPath(clip_id).name.removesuffix(".wav")
    return name[1:] if name.startswith("Y") and len(name) == _YOUTUBE_ID + 1 else name


def file_name_key(clip_id: str) -> str:
    """Return the file's name without its folders: `balanced/Yabc` becomes `Yabc`."""
    return PurePosixPath(clip_id).name


def read_teacher_array(
    array: str | Path,
    index: str | Path,
    labels: Sequence[str],
    key: Callable[[str], str] = file_name_key,
) -> TeacherLogits:
    """Read logits from an array and its index, as FastAST, EfficientAT and PaSST publish them.

    The array stays on disk and is read row by row. Row -1 in the index means that the teacher does not know the clip.

    Args:
        array: `.npy` file of logits (N, K), float.
        index: `.json` with {name: row}, `.csv` with the columns id and row, or `.pkl` with a dict of text and whole
            numbers. The pickle is read without running anything in it: one that holds more is refused.
        labels: Names of the columns, in order; the files do not say.
        key: Turns a clip's id into its name in the index: `file_name_key`, `audioset_key` or your own.

    Raises:
        DataError: A file is missing or damaged, the shapes do not fit, or a row does not exist.
    """
    try:
        logits = np.load(array, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{array} is not a readable .npy array of numbers: {error}") from error
    if not isinstance(logits, np.ndarray) or logits.ndim != 2 or not np.issubdtype(logits.dtype, np.floating):
        raise DataError(f"{array} must hold one float array (clips, classes)")
    if logits.shape[1] != len(labels):
        raise DataError(f"{array} has {logits.shape[1]} columns, but {len(labels)} labels are given")
    rows = _checked_rows(_read_index(Path(index)), Path(index), len(logits))
    return TeacherLogits(tuple(labels), rows, logits, {"array": Path(array).name, "index": Path(index).name}, key)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, text and numbers. Everything else in a pickle goes through a name, and no name is looked up."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module_name}.{global_name}")


def _read_index(path: Path) -> Any:
    readers: dict[str, Callable[[BinaryIO], Any]] = {
        ".json": json.load,
        ".csv": _read_csv,
        ".pkl": lambda file: _PlainUnpickler(file).load(),
    }
    if path.suffix not in readers:
        raise DataError(f"{path} must be .json ({{name: row}}), .csv (id,row) or .pkl (a dict)")
    try:
        with path.open("rb") as file:
            return readers[path.suffix](file)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is no plain dict of text and whole numbers ({error}): write it as JSON where it was made, "
            "with json.dump({name: int(row) for name, row in index.items()}, file)"
        ) from error
    except Exception as error:  # what a damaged pickle raises depends on the damage
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error})") from error


def _read_csv(file: BinaryIO) -> dict[str, int]:
    reader = csv.DictReader(file.read().decode("utf-8-sig").splitlines())
    return {row["id"]: int(row["row"]) for row in reader}


def _checked_rows(index: Any, path: Path, n_rows: int) -> Mapping[str, int]:
    if not isinstance(index, dict) or not index:
        raise DataError(f"{path} must hold {{name: row}} with at least one name")
    for name, row in index.items():
        if not isinstance(name, str) or type(row) is not int or not -1 <= row < n_rows:
            raise DataError(f"{path}: {name!r} is at row {row!r}, but the array has rows 0 to {n_rows - 1}")
    return {name: row for name, row in index.items() if row >= 0}
