"""One file per track of an index: its embeddings and what they were made from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tome_audio.data.clips import DataError
from tome_audio.data.whole_file import whole_file
from tome_audio.retrieval.embedding import EmbeddedWindows

_READ = 2**20


@dataclass(frozen=True)
class TrackFacts:
    """What an index knows of a track beside its embeddings.

    Attributes:
        id: Of the track.
        path: Of its audio file at the time.
        seconds: Length.
        n_windows: Windows with sound.
        size: Bytes of the audio file.
        mtime_ns: When the audio file changed last.
        digest: SHA-256 of the audio file.
    """

    id: str
    path: str
    seconds: float
    n_windows: int
    size: int
    mtime_ns: int
    digest: str


def track_place(folder: Path, track_id: str) -> Path:
    """Return where a track is kept below `folder`: ids may hold what file names may not."""
    name = hashlib.sha256(track_id.encode()).hexdigest()[:32]
    return folder / name[:2] / f"{name}.npz"  # not all in one folder, which would be slow to list


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ):
            digest.update(block)
    return digest.hexdigest()


def write_track(path: Path, facts: TrackFacts, windows: EmbeddedWindows, sketch: Tensor) -> None:
    """Write a track, whole or not at all; the same track gives the same bytes.

    Raises:
        OSError: It cannot be written.
    """
    with whole_file(path) as partial:
        np.savez(
            partial,
            facts=np.array(json.dumps(asdict(facts), sort_keys=True)),
            starts=windows.starts.numpy(),
            values=windows.values.numpy(),
            sketch=sketch.numpy(),
        )


def read_facts(path: Path) -> TrackFacts:
    """Read what is known of a track, without its embeddings.

    Raises:
        DataError: The file is damaged.
    """
    (facts,) = _members(path, "facts")
    return _facts(path, facts)


def read_track(path: Path) -> tuple[TrackFacts, EmbeddedWindows]:
    """Read a track with its embeddings.

    Raises:
        DataError: The file is damaged.
    """
    found, starts, values = _members(path, "facts", "starts", "values")
    facts = _facts(path, found)
    if starts.shape != (facts.n_windows,) or values.shape[:-1] != (facts.n_windows,):
        raise DataError(_damaged(path, f"{values.shape} embeddings for {facts.n_windows} windows"))
    return facts, EmbeddedWindows(torch.from_numpy(starts), torch.from_numpy(values), facts.seconds)


def read_sketch(path: Path) -> Tensor:
    """Read the sketch (T, F) of a track.

    Raises:
        DataError: The file is damaged.
    """
    (found,) = _members(path, "sketch")
    return torch.from_numpy(found)


def _members(path: Path, *names: str) -> list[np.ndarray]:
    try:
        found = []
        with zipfile.ZipFile(path) as members:
            for name in names:
                with members.open(f"{name}.npy") as member:  # its checksum is looked at while it is read
                    found.append(np.lib.format.read_array(member, allow_pickle=False))
        return found
    except Exception as error:  # what is raised varies with the damage
        raise DataError(_damaged(path, error)) from error


def _facts(path: Path, found: Any) -> TrackFacts:
    try:
        return TrackFacts(**json.loads(str(found)))
    except (ValueError, TypeError) as error:
        raise DataError(_damaged(path, error)) from error


def _damaged(path: Path, reason: object) -> str:
    return f"{path} is damaged ({reason}): delete it and index its track again"
