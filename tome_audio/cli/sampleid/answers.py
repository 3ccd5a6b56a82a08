"""The songs of one part of a table, asked of an index of its references."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import Progress

from tome_audio.audio.reading import AudioError
from tome_audio.cli.output import warn
from tome_audio.cli.sampleid.kept_answers import ANSWERS_NAME, KeptAnswers
from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import SampleTable, Track, read_sample_table, with_audio
from tome_audio.evaluation.sample_id import SongAnswer
from tome_audio.profiling import environment
from tome_audio.retrieval import AlignOptions, Embedder, ExactSearch, IndexMatrix, SampleIndex, VoteOptions, identify
from tome_audio.retrieval.track_files import file_digest

Part = Literal["all", "train", "valid", "test"]
_NAMED = 20


@dataclass(frozen=True)
class Asked:
    """Songs to ask, and references to rank, all with audio; ids of those without in `missing`."""

    part: Part
    songs: tuple[Track, ...]
    references: tuple[Track, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """What came of one part with one model.

    Attributes:
        answers: One per song that could be read.
        references: Ids of what is in the index.
        index_seconds: What making the index takes; None where it was there already.
        n_windows: In the index.
        problems: One sentence per file that cannot be used.
    """

    answers: tuple[SongAnswer, ...]
    references: tuple[str, ...]
    index_seconds: float | None
    n_windows: int
    problems: tuple[str, ...]


def find_tables(data: str, audio: str | None) -> SampleTable:
    """Read the tables of a world or of Sample100, with the audio of a folder where one is given.

    Raises:
        DataError: They cannot be read.
    """
    table = read_sample_table(data)
    return table if audio is None else with_audio(table, audio)[0]


def find_asked(table: SampleTable, part: Part) -> Asked:
    """Return the songs and references of a part; those without audio are named on stderr.

    Data that has no parts is taken whole.

    Raises:
        DataError: There are no songs or no references with audio.
    """
    has_parts = any(track.part is not None for track in table.tracks.values())
    chosen = part if has_parts and part != "all" else None
    songs, references = (
        [track for track in tracks if track.path is not None]
        for tracks in (table.songs(chosen), table.references(chosen))
    )
    every = {track.id: track.path for track in (*table.songs(chosen), *table.references(chosen))}
    missing = tuple(name for name, path in every.items() if path is None)
    asked = Asked(part, tuple(songs), tuple(references), missing)
    if not asked.songs or not asked.references:
        raise DataError(
            f"part {part} has {len(asked.songs)} songs and {len(asked.references)} references with audio "
            f"({len(missing)} tracks have none): give the folder that holds it with --audio"
        )
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        warn(f"{len(missing)} tracks of part {part} have no audio: {', '.join(missing[:_NAMED])}{more}")
    return asked


def answer_songs(
    asked: Asked,
    embedder: Embedder,
    index: str | Path,
    votes: VoteOptions,
    align: AlignOptions,
    bars: Progress,
    *,
    label: str,
    model: dict[str, Any],
    facts: dict[str, Any],
    n_heard: int,
    batch_size: int,
) -> Answered:
    """Index the references and ask all songs, going on where an earlier run was stopped.

    Files that cannot be used are named on stderr.

    Args:
        asked: Songs and references.
        embedder: The model.
        index: Folder of the index; made if need be.
        votes: How windows that match are counted.
        align: How the references with most votes are aligned.
        bars: Shows progress.
        label: Of the progress bar.
        model: How the model was asked for, for the index to keep.
        facts: What scores depend on beside the index.
        n_heard: References per song that are looked at closely.
        batch_size: Windows per forward pass.

    Raises:
        DataError: The index is another model's, or nothing can be indexed.
    """
    found = SampleIndex.create(index, embedder, model=model)
    bar = bars.add_task(f"{label}: index", total=len(asked.references))
    files = {track.id: track.path for track in asked.references if track.path is not None}
    start = time.perf_counter()
    added = found.add(files, embedder, batch_size=batch_size, on_track=lambda *_: bars.advance(bar))
    seconds = time.perf_counter() - start
    problems = [problem.message for problem in added.problems]
    matrix = _only(found.matrix(), [*added.added, *added.known])
    # Of an index that was half there, what the whole would have taken.
    whole = seconds * (1 + len(added.known) / len(added.added)) if added.added else None
    kept = _kept_answers(found, matrix, {**facts, "n_heard": n_heard})
    bar = bars.add_task(f"{label}: songs", total=len(asked.songs))
    answers = []
    for song in asked.songs:
        assert song.path is not None  # find_asked has seen it
        n_own = n_heard + (song.id in matrix.ids)  # itself, which is no answer
        try:
            digest = file_digest(song.path) if song.path.is_file() else ""
            answer = kept.find(song.id, digest)
            if answer is None:
                said = identify(
                    song.path, embedder, ExactSearch(matrix), votes, align=align, sketch_of=found.sketch,
                    n_heard=n_own, batch_size=batch_size,
                )  # fmt: skip
                matches = tuple(heard.matches[0] for heard in said.heard if heard.matches)
                answer = SongAnswer(song.id, dict(zip(said.ids, said.scores.tolist(), strict=True)), matches)
                kept.add(answer, digest)
            answers.append(answer)
        except AudioError as error:
            problems.append(str(error))
        bars.advance(bar)
    for problem in problems:
        warn(f"skipped: {problem}")
    return Answered(tuple(answers), matrix.ids, whole, len(matrix.starts), tuple(problems))


def _kept_answers(index: SampleIndex, matrix: IndexMatrix, facts: dict[str, Any]) -> KeptAnswers:
    """Open the answers beside an index that this version of the code gave for these very tracks."""
    digests = {track.id: track.digest for track in index.tracks}
    tracks = [[name, digests[name]] for name in matrix.ids]
    code = {name: environment().get(name) for name in ("tome_audio", "commit")}
    return KeptAnswers(index.folder / ANSWERS_NAME, {**facts, **code, "index": index.settings, "tracks": tracks})


def _only(matrix: IndexMatrix, ids: Sequence[str]) -> IndexMatrix:
    """Return the matrix of these tracks: the index may hold others, of an earlier run."""
    wanted = set(ids)
    if wanted.issuperset(matrix.ids):
        return matrix
    return matrix.select(torch.tensor([number for number, own in enumerate(matrix.ids) if own in wanted]))
