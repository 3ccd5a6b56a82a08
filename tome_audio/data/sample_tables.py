"""Tables of sample identification: tracks, and which song samples which original, where."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import soundfile

from tome_audio.data.clips import DataError
from tome_audio.data.whole_file import whole_file

TRACKS_NAME, OCCURRENCES_NAME = "tracks.csv", "occurrences.csv"
SAMPLES_NAME = "samples.csv"
"""Sample100's table in the place of `OCCURRENCES_NAME`."""
PARTS = ("train", "valid", "test")

Role = Literal["song", "original", "distractor"]

_TRACK_COLUMNS = ("id", "path", "part", "role", "seconds", "artist", "title", "year", "genre")
_NUMBERS = ("song_start", "song_end", "original_start", "original_end", "semitones", "tempo_ratio", "level_db")
_MORE_SUFFIXES = frozenset({".mp3", ".opus", ".oga", ".aif", ".aiff"})


@dataclass(frozen=True)
class Track:
    """A piece of audio. What is unknown is None.

    Attributes:
        id: Unique in its table; the stem of its audio file.
        path: Of the audio; the file may be absent, see `with_audio`.
        part: "train", "valid" or "test"; a track without a part belongs to all of them.
        role: "song" (asked for), "original" (sampled by songs) or "distractor" (a reference that nobody samples).
        seconds: Its length.
        artist: For people to read, as are the next three.
        title: Of the track.
        year: Of its release.
        genre: As the table calls it.
    """

    id: str
    path: Path | None = None
    part: str | None = None
    role: Role | None = None
    seconds: float | None = None
    artist: str | None = None
    title: str | None = None
    year: str | None = None
    genre: str | None = None


@dataclass(frozen=True)
class Occurrence:
    """A stretch of a song that is a sample of a stretch of an original; times in seconds. What is unknown is None.

    Attributes:
        song: Id of the new track, which samples.
        original: Id of the old record, which is sampled.
        song_start: Where the sample begins in the song.
        song_end: Where it ends there.
        original_start: Where it was cut from the original.
        original_end: Where the cut ended.
        semitones: How much higher it sounds in the song than in the original.
        tempo_ratio: How much faster it is played in the song than in the original.
        level_db: Of the sample against all else that sounds in the song meanwhile.
        kind: "loop" or "single" in generated worlds; Sample100's sample_type, such as "riff".
        comments: For people to read.
        repetitions: How often it is heard, where one row stands for all of them.
        interpolation: Sample100's word on whether it was played anew instead of sampled: "no", "maybe", "yes".
    """

    song: str
    original: str
    song_start: float
    song_end: float | None
    original_start: float
    original_end: float | None
    semitones: float | None = None
    tempo_ratio: float | None = None
    level_db: float | None = None
    kind: str | None = None
    comments: str | None = None
    repetitions: int | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class SampleTable:
    """Tracks by id, and the samples that songs hold; a song without occurrences samples nothing.

    Raises:
        DataError: An occurrence names a track that is not there.
    """

    tracks: Mapping[str, Track]
    occurrences: tuple[Occurrence, ...]

    def __post_init__(self) -> None:
        for number, occurrence in enumerate(self.occurrences, start=1):
            for what, name in (("song", occurrence.song), ("original", occurrence.original)):
                if name not in self.tracks:
                    raise DataError(
                        f"occurrence {number} has the {what} {name!r}, which is not among the tracks: add it"
                    )

    def songs(self, part: str | None = None) -> tuple[Track, ...]:
        """Return the tracks to ask for, of one part or of all; a track without a part is in every one."""
        return tuple(track for track in self._of(part) if track.role == "song")

    def references(self, part: str | None = None) -> tuple[Track, ...]:
        """Return the tracks to find, originals and distractors; a song that others sample is one of them."""
        sampled = {occurrence.original for occurrence in self.occurrences}
        return tuple(track for track in self._of(part) if track.role != "song" or track.id in sampled)

    def originals_of(self, song: str) -> tuple[str, ...]:
        """Return the ids of the originals that a song samples, each once; none for a song without samples."""
        return tuple(dict.fromkeys(occurrence.original for occurrence in self.occurrences_of(song)))

    def occurrences_of(self, song: str) -> tuple[Occurrence, ...]:
        """Return where a song samples what, in the order of the table."""
        return tuple(occurrence for occurrence in self.occurrences if occurrence.song == song)

    def summary(self) -> str:
        """Counts of tracks by role, and of samples, in one line."""
        roles = Counter(track.role or "unknown" for track in self.tracks.values())
        counts = ", ".join(f"{n} {role}{'s' if n != 1 else ''}" for role, n in sorted(roles.items()))
        pairs = len({(occurrence.song, occurrence.original) for occurrence in self.occurrences})
        return f"{counts or 'no tracks'}; {pairs} pairs of song and original"

    def _of(self, part: str | None) -> Iterator[Track]:
        return (track for track in self.tracks.values() if part is None or track.part in (None, part))


def read_sample_table(folder: str | Path) -> SampleTable:
    """Read a folder's tracks.csv with occurrences.csv (ours) or with samples.csv (Sample100 as distributed).

    Which of the two it is, the header of tracks.csv says. Sample100 (Van Balen, 2011; "Sample ID Dataset 2.0") calls
    the record that is sampled the original track and the new one that samples it the sample track; here they are
    `Occurrence.original` and `Occurrence.song`. Its times are whole seconds and it has no ends.

    Raises:
        DataError: No such tables, a row that cannot be read, or a track twice.
    """
    root = Path(folder)
    table = root / TRACKS_NAME
    rows = _rows(table)
    header = next(rows)[1]
    if "track_id" in header:
        return _sample100(rows, _rows(root / SAMPLES_NAME), table)
    if "id" not in header:
        raise DataError(f"{table} has no column id (ours) or track_id (Sample100): it is no table of tracks")
    tracks = _unique(table, (_track(where, _named(where, header, row), root) for where, row in rows))
    rows = _rows(root / OCCURRENCES_NAME)
    where, header = next(rows)
    if lacking := [name for name in ("song", "original", "song_start", "original_start") if name not in header]:
        raise DataError(f"{where} has no column {lacking[0]}: it is no table of occurrences")
    occurrences = tuple(_occurrence(where, _named(where, header, row)) for where, row in rows)
    return SampleTable(tracks, occurrences)


def write_sample_table(table: SampleTable, folder: str | Path) -> None:
    """Write tracks.csv and occurrences.csv, each whole or not at all; paths below the folder become relative."""
    root = Path(folder)
    rows = []
    for track in table.tracks.values():
        below = track.path is not None and track.path.is_relative_to(root)
        path = track.path.relative_to(root) if track.path is not None and below else track.path
        rows.append([getattr(replace(track, path=path), name) for name in _TRACK_COLUMNS])
    _write_csv(root / OCCURRENCES_NAME, [field.name for field in fields(Occurrence)], [
        [getattr(occurrence, field.name) for field in fields(Occurrence)] for occurrence in table.occurrences
    ])  # fmt: skip
    _write_csv(root / TRACKS_NAME, _TRACK_COLUMNS, rows)


def with_audio(table: SampleTable, folder: str | Path) -> tuple[SampleTable, list[str]]:
    """Return the table with the audio files that lie in a folder or below it, and the ids of tracks without one.

    A file belongs to the track whose id is its name without extension: audio/T001.flac, hip-hop/T001.mp3. Tracks
    without a file keep their place in the table, with the path None.

    Raises:
        DataError: No such folder, or two files for one track.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}: give the one with the audio of the tracks")
    suffixes = _MORE_SUFFIXES | {f".{name.lower()}" for name in soundfile.available_formats()}
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in suffixes and path.stem in table.tracks and path.is_file():
            if path.stem in found:
                raise DataError(
                    f"{found[path.stem]} and {path} are both named after track {path.stem}: keep one of them"
                )
            found[path.stem] = path
    tracks = {name: replace(track, path=found.get(name)) for name, track in table.tracks.items()}
    return replace(table, tracks=tracks), [name for name in tracks if name not in found]


def _track(where: str, row: Mapping[str, str], root: Path) -> Track:
    part, role = row.get("part") or None, row.get("role") or None
    if part is not None and part not in PARTS:
        raise DataError(f"{where}: part {part!r} is not one of {', '.join(PARTS)}")
    if role is not None and role not in get_args(Role):
        raise DataError(f"{where}: role {role!r} is not one of {', '.join(get_args(Role))}")
    path = row.get("path") or None
    return Track(
        id=row["id"],
        path=None if path is None else root / path,
        part=part,
        role=role,  # type: ignore[arg-type]  # one of the three, as was asked above
        seconds=_number(where, row, "seconds"),
        **{name: row.get(name) or None for name in ("artist", "title", "year", "genre")},
    )


def _occurrence(where: str, row: Mapping[str, str]) -> Occurrence:
    numbers: dict[str, Any] = {name: _number(where, row, name) for name in _NUMBERS}
    for name in ("song_start", "original_start"):
        if numbers[name] is None or numbers[name] < 0:
            raise DataError(f"{where}: {name} must be a time in seconds, got {row.get(name) or 'nothing'}")
    for what in ("song", "original"):
        if numbers[f"{what}_end"] is not None and numbers[f"{what}_end"] <= numbers[f"{what}_start"]:
            raise DataError(f"{where}: {what}_end must come after {what}_start")
    words: dict[str, Any] = {name: row.get(name) or None for name in ("kind", "comments", "interpolation")}
    repetitions = _number(where, row, "repetitions")
    return Occurrence(
        row["song"], row["original"], **numbers, **words, repetitions=None if repetitions is None else int(repetitions)
    )


def _sample100(
    tracks: Iterator[tuple[str, list[str]]], samples: Iterator[tuple[str, list[str]]], table: Path
) -> SampleTable:
    where, header = next(samples)
    columns = ("original_track_id", "sample_track_id", "t_original", "t_sample", "n_repetitions", "sample_type")
    if lacking := [name for name in columns if name not in header]:
        raise DataError(f"{where} has no column {lacking[0]}: it is not Sample100's table of samples")
    occurrences = []
    for at, values in samples:
        # What follows the last comma that the header asks for is the comment, commas and all.
        joined = [*values[: len(header) - 1], ", ".join(values[len(header) - 1 :])]
        row = _named(at, header, joined)
        named = {
            "song": row["sample_track_id"],
            "original": row["original_track_id"],
            "song_start": row["t_sample"],
            "original_start": row["t_original"],
            "repetitions": row["n_repetitions"],
            "kind": row["sample_type"],
            "interpolation": row.get("interpolation", ""),
            "comments": row.get("comments", ""),
        }
        occurrences.append(_occurrence(at, named))
    songs = {occurrence.song for occurrence in occurrences}
    originals = {occurrence.original for occurrence in occurrences}

    def track(at: str, values: list[str]) -> Track:
        if len(values) < 5:
            raise DataError(f"{at}: a track needs id, artist, title, year and genre, got {len(values)} values")
        role: Role = "song" if values[0] in songs else "original" if values[0] in originals else "distractor"
        # A comma too many is one in the title: the year is in the last place but one.
        title = ", ".join(values[2:-2])
        return Track(values[0], None, None, role, None, values[1], title, values[-2], values[-1])

    return SampleTable(_unique(table, (track(*row) for row in tracks)), tuple(occurrences))


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Give where a row is and its values, the header first; any line ends, empty lines left out, values stripped."""
    try:
        written = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
    try:
        text = written.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = written.decode("latin-1")
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline=""), skipinitialspace=True)
    try:
        rows = [(f"{path}, line {reader.line_num}", [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error
    rows = [(where, row) for where, row in rows if any(row)]
    if not rows:
        raise DataError(f"{path} is empty: it needs a header")
    return iter(rows)


def _named(where: str, header: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    if len(values) > len(header):
        raise DataError(f"{where}: {len(values)} values for {len(header)} columns: quote values with commas")
    return dict(zip(header, [*values, *[""] * (len(header) - len(values))], strict=True))


def _unique(table: Path, tracks: Iterator[Track]) -> dict[str, Track]:
    found: dict[str, Track] = {}
    for track in tracks:
        if not track.id:
            raise DataError(f"{table}: a track has no id: give every track one")
        if track.id in found:
            raise DataError(f"{table}: the track {track.id!r} is listed twice: give every track its own id")
        found[track.id] = track
    return found


def _number(where: str, row: Mapping[str, str], name: str) -> float | None:
    written = row.get(name) or None
    try:
        number = None if written is None else float(written)
    except ValueError as error:
        raise DataError(f"{where}: {name} must be a number, got {written!r}") from error
    if number is not None and not math.isfinite(number):
        raise DataError(f"{where}: {name} must be a number, got {written!r}")
    return number


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            [["" if v is None else v.as_posix() if isinstance(v, Path) else v for v in row] for row in rows]
        )
