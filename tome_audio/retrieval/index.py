"""An index of tracks on disk: made, added to, taken from and searched without training anything.

`index.json` says which model it is for. `tracks/` holds a file per track, written whole or not at all: a run that was
killed goes on behind the tracks that are there. One process at a time may add or remove.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tome_audio.audio.reading import AudioError
from tome_audio.data.clips import DataError
from tome_audio.data.whole_file import whole_file
from tome_audio.retrieval.embedder import Embedder
from tome_audio.retrieval.embedding import embed_reference
from tome_audio.retrieval.matrix import IndexMatrix
from tome_audio.retrieval.sketches import sketch_file
from tome_audio.retrieval.track_files import (
    TrackFacts,
    file_digest,
    read_facts,
    read_sketch,
    read_track,
    track_place,
    write_track,
)

INDEX_NAME = "index.json"
_TRACKS = "tracks"
_VERSION = 1


class TrackProblem(NamedTuple):
    """A file that is not in the index: id, path, kind of problem, and one sentence that names the file."""

    id: str
    path: Path
    kind: str
    message: str


class Added(NamedTuple):
    """Ids of tracks that were added, of tracks that were in the index before, and the files that cannot be used."""

    added: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[TrackProblem, ...]


OnTrack = Callable[[str, TrackProblem | None], None]
"""Called after each file with its id and what is wrong with it."""


class SampleIndex:
    """Tracks by their windows' embeddings, for one model; see `create` and `open`.

    Attributes:
        folder: Where it is.
        settings: The embedder's facts, window, hop and sample rate.
        model: How the model was asked for, so that it can be loaded again.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self.model = dict(model)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        embedder: Embedder,
        *,
        hop: float | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> SampleIndex:
        """Make an empty index, or open the one that is there.

        Args:
            folder: Made if need be.
            embedder: The model.
            hop: Seconds from one window to the next; None takes the embedder's, or that of the index that is there.
            model: How the model was asked for: name, r. JSON values.

        Raises:
            DataError: The folder holds an index of another model, r or hop, or something else.
            OSError: The folder cannot be written.
        """
        root = Path(folder)
        if (root / INDEX_NAME).is_file():
            found = cls.open(root)
            found.check(embedder, hop)
            return found
        if root.is_file() or (root.is_dir() and any(root.iterdir())):
            raise DataError(f"{root} holds something else than an index: give an empty folder or a new one")
        made = cls(root, _settings(embedder, embedder.hop if hop is None else hop), model or {})
        text = json.dumps({"version": _VERSION, "settings": made.settings, "model": made.model}, indent=2) + "\n"
        with whole_file(root / INDEX_NAME) as partial:
            partial.write_text(text, encoding="utf-8")
        return made

    @classmethod
    def open(cls, folder: str | Path) -> SampleIndex:
        """Open an index.

        Raises:
            DataError: There is none, or it is damaged.
        """
        path = Path(folder) / INDEX_NAME
        if not path.is_file():
            raise DataError(f"{folder} holds no {INDEX_NAME}: make an index with `tome-audio sampleid index`")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            version, settings, model = found["version"], dict(found["settings"]), dict(found["model"])
            float(settings["hop"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): delete the folder and index again") from error
        if version != _VERSION:
            raise DataError(f"{path} has format {version}, and {_VERSION} is known here: update tome_audio")
        return cls(Path(folder), settings, model)

    @property
    def hop(self) -> float:
        """Seconds from one window of a track to the next."""
        return float(self.settings["hop"])

    def check(self, embedder: Embedder, hop: float | None = None) -> None:
        """Raise unless the index was made with this embedder, and with this hop where one is given.

        Raises:
            DataError: Naming what differs.
        """
        wanted = _settings(embedder, self.hop if hop is None else hop)
        changed = sorted(name for name in self.settings.keys() | wanted if self.settings.get(name) != wanted.get(name))
        if changed:
            listed = "; ".join(f"{name} was {self.settings.get(name)}, now {wanted.get(name)}" for name in changed)
            raise DataError(
                f"{self.folder} was made with another model or other settings ({listed}): use those it was made with, "
                "or make another index"
            )

    @property
    def tracks(self) -> tuple[TrackFacts, ...]:
        """The tracks by ascending id.

        Raises:
            DataError: A file is damaged.
        """
        return tuple(sorted((read_facts(path) for path in self._paths()), key=lambda facts: facts.id))

    def add(
        self,
        files: Mapping[str, Path],
        embedder: Embedder,
        *,
        batch_size: int = 32,
        on_track: OnTrack | None = None,
        on_seconds: Callable[[float], None] | None = None,
    ) -> Added:
        """Add audio files by track id; what is there already, with the same content, stays as it is.

        A file of a path that is in the index and whose content has changed takes the place of the old one.

        Args:
            files: Path by track id.
            embedder: The model that the index was made with.
            batch_size: Windows per forward pass.
            on_track: Called after each file.
            on_seconds: Called with the seconds of the present file that have been read.

        Raises:
            DataError: The index was made with another model, or an embedding is not finite.
            OSError: The index cannot be written.
        """
        self.check(embedder)
        for leaving in (self.folder / _TRACKS).glob("*/.*.part.npz"):  # of a run that was killed while it wrote
            leaving.unlink()
        added, known, problems = [], [], []
        for track_id, path in files.items():
            problem = None
            try:
                if self._has(track_id, path):
                    known.append(track_id)
                else:
                    windows = embed_reference(
                        path, embedder, hop=self.hop, batch_size=batch_size, on_seconds=on_seconds
                    )
                    facts = _facts_of(track_id, path, windows.seconds, len(windows.starts))
                    write_track(self._place(track_id), facts, windows, sketch_file(path))
                    added.append(track_id)
            except AudioError as error:
                problem = TrackProblem(track_id, path, error.kind, str(error))
            except _IdTakenError as error:
                problem = TrackProblem(track_id, path, "id taken", str(error))
            if problem is not None:
                problems.append(problem)
            if on_track is not None:
                on_track(track_id, problem)
        return Added(tuple(added), tuple(known), tuple(problems))

    def remove(self, ids: Sequence[str]) -> None:
        """Take tracks out of the index.

        Raises:
            DataError: One of them is not in it; nothing is removed then.
            OSError: The index cannot be written.
        """
        places = {track_id: self._place(track_id) for track_id in ids}
        absent = [track_id for track_id, place in places.items() if not place.is_file()]
        if absent:
            raise DataError(
                f"{self.folder} has no track {', '.join(map(repr, absent[:5]))}{' and more' if absent[5:] else ''}; "
                "nothing was removed"
            )
        for place in places.values():
            place.unlink()

    def matrix(self) -> IndexMatrix:
        """Read all embeddings, track by track in the order of `tracks`.

        Raises:
            DataError: A file is damaged, or there is no track.
        """
        found = [read_track(path) for path in self._paths()]
        if not found:
            raise DataError(f"{self.folder} holds no track yet: add some with `tome-audio sampleid add`")
        if len(lengths := {windows.values.shape[1] for _, windows in found}) > 1:
            raise DataError(f"{self.folder} holds embeddings of {sorted(lengths)} numbers: delete it and index again")
        found.sort(key=lambda track: track[0].id)
        counts = torch.tensor([facts.n_windows for facts, _ in found])
        return IndexMatrix(
            tuple(facts.id for facts, _ in found),
            torch.tensor([facts.seconds for facts, _ in found], dtype=torch.float64),
            torch.cat([windows.values for _, windows in found]),
            torch.cat([windows.starts for _, windows in found]),
            torch.arange(len(found)).repeat_interleave(counts),
        )

    def sketch(self, track_id: str) -> Tensor:
        """Read the sketch (T, F) of a track, uint8.

        Raises:
            DataError: A file is damaged or absent.
        """
        return read_sketch(self._place(track_id))

    def _paths(self) -> list[Path]:
        return sorted(path for path in (self.folder / _TRACKS).glob("*/*.npz") if not path.name.startswith("."))

    def _place(self, track_id: str) -> Path:
        return track_place(self.folder / _TRACKS, track_id)

    def _has(self, track_id: str, path: Path) -> bool:
        """Whether the index holds this very file under this id.

        Raises:
            _IdTakenError: It holds another one.
        """
        try:
            facts = read_facts(self._place(track_id))
            status = path.stat()
        except (DataError, OSError):  # absent or damaged: embedding it will tell
            return False
        if (facts.size, facts.mtime_ns, facts.path) == (status.st_size, status.st_mtime_ns, str(path.resolve())):
            return True
        try:
            if facts.size == status.st_size and facts.digest == file_digest(path):
                return True
        except OSError:
            return False
        if facts.path != str(path.resolve()):
            raise _IdTakenError(
                f"{path}: the index holds another file as {track_id!r}, {facts.path}; remove that one first, or give "
                "this one another name"
            )
        return False


class _IdTakenError(Exception):
    """Another file has the id."""


def _facts_of(track_id: str, path: Path, seconds: float, n_windows: int) -> TrackFacts:
    status = path.stat()
    where = str(path.resolve())
    return TrackFacts(
        track_id, where, seconds, n_windows, status.st_size, status.st_mtime_ns, file_digest(path)
    )  # fmt: skip


def _settings(embedder: Embedder, hop: float) -> dict[str, Any]:
    found = {
        **embedder.facts,
        "window": embedder.window,
        "hop": hop,
        "sample_rate": embedder.sample_rate,
    }
    settings: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True))
    return settings
