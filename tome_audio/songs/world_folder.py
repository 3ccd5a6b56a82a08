"""A world on disk: audio, tables and what they were made by; killed and made again, it is the same."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, fields
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import soundfile
import torch

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import TRACKS_NAME, Occurrence, Role, SampleTable, Track, write_sample_table
from tome_audio.data.whole_file import whole_file
from tome_audio.songs.material import Material
from tome_audio.songs.worlds import SHARED, Plan, WorldOptions, make_track, plan_world

WORLD_NAME, MADE_NAME = "world.json", "made.jsonl"
"""All options; and what is known of every track that is there."""

_VERSION = 1
_ROLES: dict[str, Role] = {"original": "original", "distractor": "distractor", "song": "song"}
_AHEAD = 4
"""Tracks that wait for each process, so that none waits for the next."""

_Row = dict[str, Any]


def write_world(
    options: WorldOptions,
    material: Material,
    folder: str | Path,
    *,
    n_processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> SampleTable:
    """Write a world as 16-bit FLAC with tracks.csv and occurrences.csv, and return its table.

    References and songs go to audio/PART/ID.flac, stems to train on to stems/PART/ID/STEM.flac. A folder where this
    was stopped is gone on with: tracks that are there stay, the tables come last. Any number of processes writes the
    same bytes.

    Args:
        options: What to make.
        material: What to make it of.
        folder: Made if need be.
        n_processes: Processes that make tracks; 1 makes them in this one. More are spawned: a script that asks for
            them needs `if __name__ == "__main__":` around the call.
        on_progress: Called after every track with (tracks done, tracks in all).

    Raises:
        DataError: The folder holds something else, or the material does not suffice.
        AudioError: A clip that cannot be read.
        ValueError: `n_processes` below 1.
    """
    if n_processes < 1:
        raise ValueError(f"n_processes must be at least 1, got {n_processes}")
    root, plans = Path(folder), list(plan_world(options))
    for part in options.wanted_parts():
        counts = options.parts[part]
        n_songs = counts.n_songs + counts.n_without
        material.check(part, options.n_originals(part), counts.n_distractors, n_songs, counts.n_material)
    if options.shared_originals:
        material.check(SHARED, options.shared_originals, 0, 0, 0)
    _claim(root, world_facts(options, material))
    made = _made_before(root, plans)
    left = [plan for plan in plans if plan.id not in made]
    with (root / MADE_NAME).open("a", encoding="utf-8") as journal:
        for row in _rows(options, material, root, left, n_processes):
            made[row["id"]] = row
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            if on_progress is not None:
                on_progress(len(made), len(plans))
    table = _table(root, plans, made)
    _write_made(root, [made[plan.id] for plan in plans])
    write_sample_table(table, root)
    return table


def world_facts(options: WorldOptions, material: Material) -> dict[str, Any]:
    """Return all that a world follows from, as JSON has it."""
    facts = {"version": _VERSION, **asdict(options), "material": material.facts()}
    known: dict[str, Any] = json.loads(json.dumps(facts))
    return known


def _rows(
    options: WorldOptions, material: Material, root: Path, plans: Sequence[Plan], n_processes: int
) -> Iterator[_Row]:
    """Make tracks, and give what is known of each once it is on disk; in any order."""
    if n_processes == 1 or len(plans) < 2:
        for plan in plans:
            yield _written(options, material, root, plan)
        return
    todo = iter(plans)
    with _processes(n_processes) as pool:
        first = islice(todo, _AHEAD * n_processes)
        waiting = {pool.submit(_written, options, material, root, plan) for plan in first}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(_written, options, material, root, plan) for plan in islice(todo, len(done))}
            yield from (future.result() for future in done)


@contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned: a fork of a process with threads may stand still.
    pool = ProcessPoolExecutor(number, get_context("spawn"), initializer=_begin_process)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    torch.set_num_threads(1)
    # An interruption is for the first process to deal with; if that one is killed, the others end too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _written(options: WorldOptions, material: Material, root: Path, plan: Plan) -> _Row:
    made = make_track(options, material, plan)
    for name, samples in made.audio.items():
        with whole_file(_path(root, plan, name)) as partial:
            soundfile.write(partial, samples, material.sample_rate, subtype="PCM_16", format="FLAC")
    return {
        "id": plan.id,
        "seconds": round(made.seconds, 6),
        "files": [_path(root, plan, name).relative_to(root).as_posix() for name in made.audio],
        "occurrences": [asdict(occurrence) for occurrence in made.occurrences],
        **made.facts,
    }


def _path(root: Path, plan: Plan, stem: str) -> Path:
    if plan.kind == "material":
        return root / "stems" / plan.part / plan.id / f"{stem}.flac"
    return root / "audio" / plan.part / f"{plan.id}.flac"


def _table(root: Path, plans: Sequence[Plan], made: dict[str, _Row]) -> SampleTable:
    tracks, occurrences = {}, []
    for plan in plans:
        if plan.kind in _ROLES:
            row = made[plan.id]
            part = None if plan.part == SHARED else plan.part
            tracks[plan.id] = Track(
                plan.id, _path(root, plan, ""), part, _ROLES[plan.kind], row["seconds"],
                title=row.get("title"), genre=row.get("genre"),
            )  # fmt: skip
            occurrences += [Occurrence(**occurrence) for occurrence in row["occurrences"]]
    return SampleTable(tracks, tuple(occurrences))


def _claim(root: Path, facts: dict[str, Any]) -> None:
    """Write down what the folder is for, or check that it was for the same."""
    path = root / WORLD_NAME
    if path.is_file():
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} cannot be read: delete the folder and make it again") from error
        if changed := [name for name, value in facts.items() if known.get(name) != value]:
            raise DataError(
                f"{root} holds a world made otherwise ({', '.join(changed)} changed): give another folder or delete it"
            )
    elif (root / TRACKS_NAME).exists():
        raise DataError(f"{root} holds {TRACKS_NAME} of other tracks: give another folder")
    else:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for leaving in root.glob("*/**/.*.part.flac"):  # of a run that was killed while it wrote
        leaving.unlink(missing_ok=True)


def _made_before(root: Path, plans: Sequence[Plan]) -> dict[str, _Row]:
    """Return what an earlier run has written down of files that are there; the line it was killed in is dropped."""
    path = root / MADE_NAME
    if not path.exists():
        return {}
    wanted = {plan.id for plan in plans}
    needed = {field.name for field in fields(Occurrence)}
    found: dict[str, _Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            whole = row["id"] in wanted and all((root / file).is_file() for file in row["files"])
            whole = whole and all(set(occurrence) == needed for occurrence in row["occurrences"])
        except (ValueError, TypeError, KeyError):
            continue
        if whole:
            found[row["id"]] = row
    _write_made(root, list(found.values()))
    return found


def _write_made(root: Path, rows: Sequence[_Row]) -> None:
    with whole_file(root / MADE_NAME) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
