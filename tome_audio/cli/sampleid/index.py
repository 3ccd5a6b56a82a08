"""`tome-audio sampleid index`, `add` and `remove`: which originals are looked for."""

from __future__ import annotations

from pathlib import Path

from tome_audio.cli.output import console
from tome_audio.cli.rates import parse_rate, rate_name
from tome_audio.cli.sampleid.embedders import load_song_embedder
from tome_audio.cli.sampleid.indexed import (
    PROBLEMS_NAME,
    add_files,
    by_id,
    check_numbers,
    find_tracks,
    model_name,
    open_index,
    summary,
    write_problems,
)
from tome_audio.data.clips import DataError, clip_id
from tome_audio.retrieval import SampleIndex


def index(
    data: str,
    model: str,
    out: str,
    r: str = "0",
    hop: float | None = None,
    batch_size: int = 32,
    threads: int | None = None,
) -> int:
    """Index the originals of a folder: embed overlapping windows of every audio file in it, of any length.

    Writes index.json and a file per track into --out; files that cannot be used are named there in problems.csv. A run
    that was stopped goes on where it was. A track's id is its path below the folder without extension.

    Args:
        data: Folder of audio files (wav, flac, ogg, mp3), in folders or not.
        model: Checkpoint of `tome-audio sampleid train`, or an audio classifier.
        out: Folder for the index; made if need be.
        r: Tokens merged per block, as in every command; songs are embedded with it too.
        hop: Seconds from one window to the next; none takes what the model was trained for.
        batch_size: Windows per forward pass.
        threads: CPU threads; none leaves PyTorch's choice.
    """
    check_numbers(batch_size, threads)
    files, rate = find_tracks(data), parse_rate(r)
    embedder = load_song_embedder(model, rate, hop=hop)
    made = SampleIndex.create(out, embedder, hop=hop, model={"name": model_name(model), "r": rate_name(rate)})
    found = add_files(made, files, embedder, batch_size)
    write_problems(Path(out) / PROBLEMS_NAME, found.problems)
    if len(found.problems) == len(files):
        raise DataError(f"none of {len(files)} files in {data} could be used; each is named above")
    going_on = f", {len(found.known)} of them by an earlier run" if found.known else ""
    console().out(f"{summary(made)}{going_on}")
    if found.problems:
        console().out(f"{len(found.problems)} files could not be used: {Path(out) / PROBLEMS_NAME}")
    return 1 if found.problems else 0


def add(
    files: list[str],
    index: str,
    id: str | None = None,
    model: str | None = None,
    batch_size: int = 32,
    threads: int | None = None,
) -> int:
    """Add originals to an index; nothing is trained.

    Args:
        files: Audio files (wav, flac, ogg, mp3).
        index: Folder of the index.
        id: Id of the track, for one file; none takes the file's name without extension.
        model: Where the model is that the index was made with, if it has moved.
        batch_size: Windows per forward pass.
        threads: CPU threads; none leaves PyTorch's choice.
    """
    check_numbers(batch_size, threads)
    if id is not None and len(files) != 1:
        raise ValueError(f"--id names one track: give one file with it, not {len(files)}")
    named = [(id or clip_id(path, path.parent), path) for path in map(Path, files)]
    opened, embedder = open_index(index, model)
    found = add_files(opened, by_id(named), embedder, batch_size)
    if len(found.problems) == len(files):
        raise DataError("nothing was added: no file could be used; each is named above")
    there = f", {len(found.known)} were there" if found.known else ""
    console().out(f"{len(found.added)} tracks added{there}; {summary(opened)}")
    return 1 if found.problems else 0


def remove(ids: list[str], index: str) -> int:
    """Take tracks out of an index; the audio files stay where they are.

    Args:
        ids: Of the tracks, as query shows them.
        index: Folder of the index.
    """
    opened = SampleIndex.open(index)
    opened.remove(ids)
    console().out(f"{len(set(ids))} tracks removed; {summary(opened)}")
    return 0
