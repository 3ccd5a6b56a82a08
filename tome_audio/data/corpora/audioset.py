"""AudioSet: segment tables of upstream, and clips in whatever naming they were fetched (Gemmeke et al., 2017)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tome_audio.data.clips import EXTENSIONS, DataError
from tome_audio.data.download import Progress, download
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_files import read_label_csv

N_CLASSES = 527
URL = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/"
LABELS = "class_labels_indices.csv"
TABLES = {
    "balanced": "balanced_train_segments.csv",
    "unbalanced": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}
TRAIN = {"balanced": ("balanced",), "full": ("balanced", "unbalanced")}

_COUNT = re.compile(r"num_segs=(\d+)")


class Segment(NamedTuple):
    """One row of a segment table: a YouTube id, seconds in the video, and mids."""

    youtube_id: str
    start: float
    end: float
    labels: tuple[str, ...]


def download_audioset(folder: str | Path, on_progress: Progress | None = None) -> Path:
    """Fetch the three segment tables and the label table to `folder` and return it; upstream has no audio to give.

    There are no checksums of them either; the tables say how many segments they have, which `read_segments` checks.

    Raises:
        DownloadError: See `download`.
    """
    for name in (LABELS, *TABLES.values()):
        download(URL + name, Path(folder) / name, on_progress=on_progress)
    return Path(folder)


def prepare_audioset(
    folder: str | Path,
    clips: str | Path | None = None,
    *,
    train: str = "balanced",
    label_csv: str | Path | None = None,
) -> Manifest:
    """Make the manifest of AudioSet: the balanced or full training segments as train, the evaluation ones as test.

    Clips are searched at any depth below `clips`, of any suffix, by their YouTube id: `ID`, `YID`, and either with
    the start, or start and end, of the segment behind it, in seconds or milliseconds (`ID_30.000`, `ID_30_40`,
    `YID_30000_40000`). A segment without a clip stays in the manifest under the path `clips`/ID.wav:
    `check_manifest` lists it with the corrupt and the short ones.

    Args:
        folder: With upstream's segment tables.
        clips: Folder of the audio; `folder`/audio unless given.
        train: "balanced" or "full", which is balanced and unbalanced together.
        label_csv: Of the 527 classes; `folder`/class_labels_indices.csv unless given.

    Raises:
        DataError: A table is missing, cut short or not upstream's, or there are not 527 classes.
    """
    root = Path(folder)
    audio = root / "audio" if clips is None else Path(clips)
    if train not in TRAIN:
        raise DataError(f"AudioSet trains on {' or '.join(TRAIN)}, not {train!r}")
    if not audio.is_dir():
        raise DataError(f"{audio} is not a folder: give the folder of clips")
    labels = read_label_csv(label_csv or root / LABELS)
    if len(labels.labels) != N_CLASSES:
        raise DataError(f"AudioSet has {N_CLASSES} classes, {label_csv or root / LABELS} has {len(labels.labels)}")
    by_stem = {path.stem: path for path in sorted(audio.rglob("*")) if path.suffix.lower() in EXTENSIONS}
    tables = [*((name, "train") for name in TRAIN[train]), ("eval", "test")]
    entries = tuple(
        _entry(segment, split, audio, by_stem)
        for name, split in tables
        for segment in read_segments(root / TABLES[name])
    )
    return Manifest(entries, labels.labels, labels.names)


def read_segments(path: str | Path) -> list[Segment]:
    """Read a segment table: comment lines that begin with #, then id, start, end and quoted mids.

    Raises:
        DataError: Not such a file, or not as many segments as its comment says.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it with download_audioset") from error
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("#")]
    segments = []
    for row in csv.reader((line for line in lines if line and not line.startswith("#")), skipinitialspace=True):
        try:
            youtube_id, start, end, mids = row
            labels = tuple(mid.strip() for mid in mids.split(","))
            segments.append(Segment(youtube_id, float(start), float(end), labels))
        except ValueError as error:
            raise DataError(f"{path}: {row} is not id, start, end and labels in quotes ({error})") from error
    promised = next((match for line in comments if (match := _COUNT.search(line))), None)
    if promised and int(promised[1]) != len(segments):
        raise DataError(f"{path} says it has {promised[1]} segments and has {len(segments)}: fetch it again")
    return segments


def name_variants(segment: Segment) -> Iterator[str]:
    """The names without suffix under which a segment's clip may lie, the more exact ones first."""
    start, end = segment.start, segment.end
    times = [f"_{start:.3f}_{end:.3f}", f"_{start:g}_{end:g}", f"_{round(start * 1000)}_{round(end * 1000)}"]
    times += [f"_{start:.3f}", f"_{start:g}", f"_{start:.1f}", f"_{round(start * 1000)}", ""]
    return (f"{prefix}{segment.youtube_id}{time}" for time in times for prefix in ("", "Y"))


def _entry(segment: Segment, split: str, audio: Path, by_stem: dict[str, Path]) -> Entry:
    found = (by_stem[name] for name in name_variants(segment) if name in by_stem)
    path = next(found, audio / f"{segment.youtube_id}.wav")
    seconds = segment.end - segment.start
    return Entry(segment.youtube_id, path, segment.labels, split, source=segment.youtube_id, duration=seconds)
