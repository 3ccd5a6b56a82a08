"""What the commands on an index share: opening it with its model, adding files, naming what cannot be used."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.evaluate import UNPATCHED
from tome_audio.cli.output import progress, warn
from tome_audio.cli.rates import parse_rate
from tome_audio.cli.sampleid.embedders import load_song_embedder
from tome_audio.data.clips import EXTENSIONS, DataError, clip_id
from tome_audio.data.whole_file import whole_file
from tome_audio.retrieval import Added, Embedder, SampleIndex, TrackProblem

PROBLEMS_NAME = "problems.csv"


def check_numbers(batch_size: int, threads: int | None) -> None:
    """Set the number of CPU threads where one is given.

    Raises:
        ValueError: A number below 1.
    """
    check_counts(batch_size=batch_size)
    use_threads(threads)


def find_tracks(folder: str) -> dict[str, Path]:
    """Return the audio files below a folder by track id, which is the path below it without extension.

    Raises:
        DataError: No such folder, no audio in it, or two files with one id.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds the originals")
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        raise DataError(f"no audio ({', '.join(sorted(EXTENSIONS))}) in {root}")
    return by_id([(clip_id(path, root), path) for path in files])


def by_id(files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Return files by track id.

    Raises:
        DataError: Two of them have one id.
    """
    found: dict[str, Path] = {}
    for track_id, path in files:
        if track_id in found:
            raise DataError(f"{found[track_id]} and {path} have the same id, {track_id}: remove or rename one of them")
        found[track_id] = path
    return found


def open_index(
    index: str,
    model: str | None = None,
    *,
    transpositions: Sequence[float] | None = None,
    tempi: Sequence[float] | None = None,
) -> tuple[SampleIndex, Embedder]:
    """Open an index together with the model it was made with.

    Args:
        index: Its folder.
        model: Where the model is now; None takes where it was.
        transpositions: Semitones that are tried for a song; None tries none.
        tempi: Tempo ratios that are tried for a song; None tries none.

    Raises:
        DataError: No index, or one of another model.
        ValueError: The model cannot be loaded.
    """
    found = SampleIndex.open(index)
    name = model or found.model.get("name")
    if not name:
        raise DataError(f"{index} does not say which model it was made with: give it as --model")
    r = str(found.model.get("r", "0"))
    embedder = load_song_embedder(
        name,
        None if r == UNPATCHED else parse_rate(r),
        transpositions=(0.0,) if transpositions is None else transpositions,
        tempi=(1.0,) if tempi is None else tempi,
    )
    found.check(embedder)
    return found, embedder


def model_name(model: str) -> str:
    """Return how a model is found again from another folder."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def add_files(index: SampleIndex, files: dict[str, Path], embedder: Embedder, batch_size: int) -> Added:
    """Add files to an index with a progress bar, and name each that cannot be used.

    Raises:
        DataError: See `SampleIndex.add`.
    """
    with progress() as bars:
        task = bars.add_task("index", total=len(files))

        def on_track(_track_id: str, problem: TrackProblem | None) -> None:
            if problem is not None:
                warn(f"error: {problem.message}")
            bars.update(task, advance=1, description="index")

        def on_seconds(seconds: float) -> None:
            bars.update(task, description=escape(f"index ({seconds / 60:.1f} min of this file)"))

        return index.add(files, embedder, batch_size=batch_size, on_track=on_track, on_seconds=on_seconds)


def write_problems(path: Path, problems: Sequence[TrackProblem]) -> None:
    """Write the files that cannot be used as CSV (id, path, kind, message); without any, no file stays there.

    Raises:
        OSError: It cannot be written.
    """
    if not problems:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["id", "path", "kind", "message"])
        rows.writerows([problem.id, str(problem.path), problem.kind, problem.message] for problem in problems)


def summary(index: SampleIndex) -> str:
    """Return what an index holds, in a few words."""
    tracks = index.tracks
    hours, windows = sum(facts.seconds for facts in tracks) / 3600, sum(facts.n_windows for facts in tracks)
    return f"{index.folder} holds {len(tracks)} tracks: {hours:.2f} h in {windows} windows"
