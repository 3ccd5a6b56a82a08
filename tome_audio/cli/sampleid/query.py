"""`tome-audio sampleid query`: which originals a song samples, and where."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from rich.table import Table

from tome_audio.audio import AudioError
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.sampleid.indexed import check_numbers, open_index
from tome_audio.retrieval import (
    AlignOptions,
    Calibration,
    Embedder,
    ExactSearch,
    FaissSearch,
    Heard,
    Identified,
    IndexMatrix,
    Search,
    VoteOptions,
    identify,
    read_calibration,
)
from tome_audio.viz.figure import picture_formats, save_figure
from tome_audio.viz.matches import Lane, plot_matches

SearchKind = Literal["exact", "faiss"]

_VOTES, _ALIGN = VoteOptions(), AlignOptions()
# Rows of the table for one original; JSON has them all.
_STRETCHES = 3


def query(
    files: list[str],
    index: str,
    top: int = 5,
    json: bool = False,
    figure: str | None = None,
    search: SearchKind = "exact",
    hop: float | None = None,
    transpositions: list[float] | None = None,
    tempi: list[float] | None = None,
    votes: VoteOptions = _VOTES,
    align: AlignOptions = _ALIGN,
    model: str | None = None,
    batch_size: int = 32,
    threads: int | None = None,
) -> int:
    """Name the originals that a song samples, and where in the song and in the original.

    Where the index has a threshold (see calibrate), only what scores above it is shown, or "no sample found". Places
    are those of windows: the sample is within.

    Args:
        files: Audio files of songs (wav, flac, ogg, mp3), of any length.
        index: Folder that `tome-audio sampleid index` has written.
        top: How many originals to show per song.
        json: Print one JSON object per song and line instead of a table.
        figure: Picture to draw for one song, .png or .svg; both if it has no ending.
        search: exact compares with all originals; faiss chooses candidates, for large indexes (extra `faiss`).
        hop: Seconds from one window of the song to the next; none takes that of the index.
        transpositions: Semitones to try, such as [-2,-1,0,1,2]; none tries the song as it is.
        tempi: Tempo ratios to try, such as [0.8,1,1.25]; none tries the song as it is.
        votes: How windows vote for a track.
        align: How the tracks with most votes are aligned with the song; that decides between them.
        model: Where the model is that the index was made with, if it has moved.
        batch_size: Windows per forward pass.
        threads: CPU threads; none leaves PyTorch's choice.
    """
    check_numbers(batch_size, threads)
    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}")
    if figure is not None and len(files) != 1:
        raise ValueError(f"--figure draws one song: give one file with it, not {len(files)}")
    picture = None if figure is None else picture_formats(figure, "--figure")
    opened, embedder = open_index(index, model, transpositions=transpositions, tempi=tempi)
    matrix = opened.matrix()
    finder: Search = make_search(search, matrix)
    hop = opened.hop if hop is None else hop
    calibration = usable_calibration(index, scoring_facts(votes, align, hop, embedder), len(matrix.ids))
    tried = len(embedder.variant_facts) > 1 or align.n_tracks > 0
    answers: dict[str, Identified] = {}
    with progress() as bars:
        for file in bars.track(files, description="query"):
            try:
                found = identify(
                    file, embedder, finder, votes, align=align, sketch_of=opened.sketch, hop=hop, n_heard=top,
                    batch_size=batch_size,
                )  # fmt: skip
            except AudioError as error:
                warn(f"error: {error}")
                continue
            answers[file] = found
            if json:
                console().out(json_format.dumps(_answer(file, found, calibration, tried)))
    if answers and not json:
        console().print(_table(answers, calibration, tried))
    if picture is not None and answers:
        ((file, found),) = answers.items()
        picture[0].parent.mkdir(parents=True, exist_ok=True)
        written = save_figure(_draw(file, found, calibration, tried), *picture)
        if not json:
            console().out(f"written: {', '.join(map(str, written))}")
    if not answers:
        return 2
    return 0 if len(answers) == len(set(files)) else 1


def make_search(kind: SearchKind, matrix: IndexMatrix) -> Search:
    """Return what chooses the tracks to compare with.

    Raises:
        ImportError: faiss is wanted and not installed.
    """
    return FaissSearch(matrix) if kind == "faiss" else ExactSearch(matrix)


def scoring_facts(votes: VoteOptions, align: AlignOptions, hop: float, embedder: Embedder) -> dict[str, Any]:
    """Return what scores depend on beside the index: a threshold holds for the same alone."""
    return {
        **asdict(votes),
        **{
            f"align.{name}": list(value) if isinstance(value, tuple) else value for name, value in asdict(align).items()
        },
        "hop": hop,
        "variants": [[float(fact) for fact in pair] for pair in embedder.variant_facts],
    }


def usable_calibration(index: str, facts: dict[str, Any], n_tracks: int) -> Calibration | None:
    """Return the threshold of an index, or None where there is none for scores of these facts.

    Raises:
        DataError: It is damaged.
    """
    found = read_calibration(index)
    if found is None:
        return None
    if other := [name for name, value in facts.items() if found.votes.get(name) != value]:
        warn(f"warning: the threshold of {index} is for another {' and '.join(other)}, so it is left out")
        return None
    if n_tracks > 2 * found.n_references:
        warn(
            f"warning: the threshold of {index} was chosen with {found.n_references} tracks in it, now there are "
            f"{n_tracks}: more songs than wanted will seem to hold a sample; calibrate again"
        )
    return found


def _shown(found: Identified, calibration: Calibration | None) -> list[Heard]:
    """Return what was heard in the tracks that score above the threshold; they come first."""
    scores = found.scores[: len(found.heard)].tolist()
    n_shown = sum(calibration is None or score > calibration.threshold for score in scores)
    return list(found.heard[:n_shown])


def _answer(file: str, found: Identified, calibration: Calibration | None, tried: bool) -> dict[str, Any]:
    matches = []
    for rank, heard in enumerate(_shown(found, calibration), start=1):
        for match in heard.matches:
            row = {"rank": rank, **{name: _rounded(value) for name, value in asdict(match).items()}}
            matches.append(row if tried else {**row, "semitones": None, "tempo_ratio": None})
    return {
        "file": file,
        "seconds": _rounded(found.seconds),
        "best_score": _rounded(found.best_score),
        "threshold": None if calibration is None else _rounded(calibration.threshold),
        "sample_found": None if calibration is None else bool(matches),
        "matches": matches,
    }


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _table(answers: dict[str, Identified], calibration: Calibration | None, tried: bool) -> Table:
    table = Table()
    for column in ("song", "original", "score", "in the song", "in the original"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    if tried:
        table.add_column("semitones", justify="right")
        table.add_column("tempo", justify="right")
    for file, found in answers.items():
        rows = [row for heard in _shown(found, calibration) for row in _rows(heard, tried)]
        rows = rows or [[f"no sample found (threshold {_threshold(calibration)})", f"{found.best_score:.3f}"]]
        for place, row in enumerate(rows):
            table.add_row(file if place == 0 else "", *row)
        table.add_section()
    return table


def _rows(heard: Heard, tried: bool) -> list[list[str]]:
    """Return the cells of a track, a row for each of the best stretches."""
    rows = []
    for place, match in enumerate(heard.matches[:_STRETCHES]):
        change = [f"{match.semitones:+g}", f"{match.tempo_ratio:.3g}x"] if tried else []
        song = _clock(match.song_start, match.song_end)
        original = _clock(match.original_start, match.original_end)
        named = [match.track, f"{match.score:.3f}"] if place == 0 else ["", ""]
        rows.append([*named, song, original, *change])
    if more := len(heard.matches) - len(rows):
        rows.append(["", "", f"and {more} more"])
    return rows


def _threshold(calibration: Calibration | None) -> str:
    return "" if calibration is None else f"{calibration.threshold:.3f}"


def _clock(start: float, end: float) -> str:
    return " - ".join(f"{int(seconds // 60)}:{seconds % 60:04.1f}" for seconds in (start, end))


def _draw(file: str, found: Identified, calibration: Calibration | None, tried: bool) -> Figure:
    n_shown = len(_shown(found, calibration))
    lanes = []
    for rank, (heard, score) in enumerate(zip(found.heard, found.scores.tolist(), strict=False)):
        matches = heard.matches if rank < n_shown else ()
        change = f", {matches[0].semitones:+g} semitones, {matches[0].tempo_ratio:.3g}x" if tried and matches else ""
        stretches = [(match.song_start, match.song_end) for match in matches]
        places = [(match.original_start, match.original_end) for match in matches]
        lanes.append(
            Lane(heard.track, f"{score:.3f}{change}", heard.profile.tolist(), stretches, places, heard.seconds)
        )
    name = Path(file).name
    title = name if n_shown else f"{name}: no sample found (threshold {_threshold(calibration)})"
    return plot_matches(lanes, found.starts.tolist(), found.window, found.seconds, title=title)
