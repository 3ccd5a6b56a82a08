"""Find labelled clips in a folder, whichever of the usual layouts it has, and read them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tome_audio.audio.reading import AudioError, read_audio

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
"""Folder names and split.csv values that are understood, and what `Clip.split` calls them."""

_FSDD_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)")
_NOT_A_CLASS = "_background_noise_"
LAYOUTS = "split.csv, recordings named {digit}_{speaker}_{index}, or one folder per class"


class DataError(ValueError):
    """A folder of clips cannot be used; the message names what is wrong and what would be right."""


@dataclass(frozen=True)
class Clip:
    """One labelled file. `split` is "train", "valid" or "test"; `speaker` is None where unknown."""

    path: Path
    label: str
    split: str
    speaker: str | None = None


class LoadedClips(NamedTuple):
    """Waveforms (T,) and, in the same order, the clips they are of; errors of the files left out."""

    waveforms: list[Tensor]
    clips: list[Clip]
    errors: list[AudioError]


def clip_id(path: Path, root: Path) -> str:
    """Return a clip's id by its place: the path below `root`, or the whole path if it is elsewhere, without extension.

    The folder belongs to it, since many corpora have files of one name in several; the extension of an audio file that
    `find_clips` knows does not, so that clips converted to another format keep their id.
    """
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    return (relative.with_suffix("") if relative.suffix.lower() in EXTENSIONS else relative).as_posix()


def find_clips(folder: str | Path, seed: int = 0, test_part: float = 0.2) -> list[Clip]:
    """List the labelled clips in `folder`, in a fixed order, each with its split.

    Three layouts are understood, tried in this order:

    * `split.csv` with columns file, label, split and, if known, speaker; files are relative to `folder`.
    * Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.flac` in `folder` or `folder/recordings`; index
      0 to 4 is test, the rest train, as upstream has it.
    * One folder per class, either in `folder` or in `train/`, `valid/` and `test/` below it. Without a
      test or valid folder, `test_part` of every class is set apart as test.

    Args:
        folder: Where to look. Audio files end in .wav, .flac, .ogg or .mp3.
        seed: Of the draw that sets clips apart where the layout has no splits.
        test_part: Part of each class set apart, in (0, 1); at least one clip of a class stays in train.

    Raises:
        DataError: No such folder, no audio in a known layout, a single class, nothing to train on, or a
            split.csv that lacks columns, lists a file that does not exist or lists one twice.
    """
    root = Path(folder)
    if not 0 < test_part < 1:
        raise DataError(f"test_part must be between 0 and 1, got {test_part}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds the audio")
    if (root / "split.csv").is_file():
        clips = _from_csv(root / "split.csv")
    else:
        clips = _from_names(root) or _from_names(root / "recordings") or _from_folders(root, seed, test_part)
    if not clips:
        kinds = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"no labelled audio ({kinds}) in {root}: expected {LAYOUTS}")
    labels = sorted({clip.label for clip in clips})
    if len(labels) < 2:
        raise DataError(f"{root} holds a single class, {labels[0]!r}: there is nothing to tell apart")
    if not any(clip.split == "train" for clip in clips):
        raise DataError(f"{root} has no clip to train on: every clip is in valid or test")
    return clips


def load_waveforms(
    clips: Sequence[Clip],
    sample_rate: int = 16000,
    on_progress: Callable[[int, int], None] | None = None,
) -> LoadedClips:
    """Read clips at `sample_rate` Hz; a file that cannot be read is left out and its error kept.

    Args:
        clips: What to read.
        sample_rate: In Hz; files at another rate are resampled.
        on_progress: Called after every file with (files done, files in all).

    Raises:
        DataError: Not one of the files could be read.
    """
    loaded = LoadedClips([], [], [])
    for done, clip in enumerate(clips, start=1):
        try:
            loaded.waveforms.append(read_audio(clip.path, sample_rate))
            loaded.clips.append(clip)
        except AudioError as error:
            loaded.errors.append(error)
        if on_progress is not None:
            on_progress(done, len(clips))
    if loaded.errors and not loaded.clips:
        raise DataError(f"none of {len(clips)} clips could be read; the first: {loaded.errors[0]}")
    return loaded


def _from_csv(table: Path) -> list[Clip]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("file", "label", "split") if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{table} has no column {' or '.join(missing)}: needs file, label, split")
            clips = [_from_row(table, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is not a readable CSV file in UTF-8: {error}") from error
    seen: set[Path] = set()
    for clip in clips:
        if clip.path in seen:
            raise DataError(f"{table} lists {clip.path} twice: a clip belongs to one split only")
        seen.add(clip.path)
    return clips


def _from_row(table: Path, line: int, row: dict[str, str | None]) -> Clip:
    path, label = table.parent / (row["file"] or ""), row["label"]
    if not path.is_file():
        raise DataError(f"{table}, line {line}: there is no file {path}")
    if not label:
        raise DataError(f"{table}, line {line}: {row['file']} has no label")
    if row["split"] not in SPLITS:
        raise DataError(f"{table}, line {line}: split {row['split']!r} is not one of {', '.join(SPLITS)}")
    return Clip(path, label, SPLITS[row["split"]], row.get("speaker") or None)


def _from_names(folder: Path) -> list[Clip]:
    files = _audio_files(folder.glob("*"))
    matches = [_FSDD_NAME.fullmatch(path.stem) for path in files]
    clips = [
        Clip(path, match["digit"], "test" if int(match["index"]) < 5 else "train", match["speaker"])
        for path, match in zip(files, matches, strict=True)
        if match
    ]
    if clips and not all(matches):
        odd = files[matches.index(None)]
        raise DataError(f"{odd} is not named {{digit}}_{{speaker}}_{{index}} as {clips[0].path.name} is")
    return clips


def _from_folders(root: Path, seed: int, test_part: float) -> list[Clip]:
    # A folder "train" with audio right inside is a class: the sound of trains.
    splits = {path.name: path for path in _subfolders(root) if path.name in SPLITS and not _audio_files(path.glob("*"))}
    if not splits:
        return _set_apart(_from_class_folders(root, "train"), seed, test_part)
    clips = [clip for name, path in splits.items() for clip in _from_class_folders(path, SPLITS[name])]
    if {clip.split for clip in clips} == {"train"}:
        return _set_apart(clips, seed, test_part)
    return clips


def _from_class_folders(root: Path, split: str) -> list[Clip]:
    folders = [path for path in _subfolders(root) if path.name != _NOT_A_CLASS]
    return [Clip(file, path.name, split) for path in folders for file in _audio_files(path.rglob("*"))]


def _set_apart(clips: list[Clip], seed: int, test_part: float) -> list[Clip]:
    # Class by class, so that every class with two clips or more is in both parts.
    rng, test = np.random.default_rng(seed), set()
    for label in sorted({clip.label for clip in clips}):
        own = [i for i, clip in enumerate(clips) if clip.label == label]
        count = min(len(own) - 1, max(1, round(test_part * len(own))))
        test.update(rng.permutation(own)[:count].tolist())
    return [replace(clip, split="test") if i in test else clip for i, clip in enumerate(clips)]


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _audio_files(paths: Iterable[Path]) -> list[Path]:
    # Names that begin with a dot are leavings of file managers, not clips.
    return sorted(
        path for path in paths if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
