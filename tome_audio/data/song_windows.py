"""Long recordings as clips of one length on disk, so that whatever learns from clips learns from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.audio.reading import AudioError, is_silent
from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.whole_file import whole_file

_RATE = 16000
_SHORTEST = 0.5  # seconds


@dataclass(frozen=True)
class SongWindows:
    """Windows of songs, and the songs that could not be used.

    Attributes:
        manifest: The windows; `source` is the id of the song, labels and split are those of the song.
        problems: One sentence per song that gave none, which begins with its file.
    """

    manifest: Manifest
    problems: tuple[str, ...]

    def songs(self, manifest: Manifest | None = None) -> tuple[tuple[str, ...], Tensor]:
        """Return the ids of the songs of some windows (all of them unless given), and which each window is of (W,)."""
        entries = (self.manifest if manifest is None else manifest).entries
        ids = tuple(dict.fromkeys(str(entry.source) for entry in entries))
        places = {song: i for i, song in enumerate(ids)}
        return ids, torch.tensor([places[str(entry.source)] for entry in entries])


def window_starts(n_samples: int, length: int, hop: int) -> list[int]:
    """Return where windows of `length` samples begin: every `hop`, and at the end of what that leaves over.

    A recording that is no longer than a window is one window.

    Raises:
        ValueError: A number below 1.
    """
    if min(n_samples, length, hop) < 1:
        raise ValueError(f"samples, length and hop must be at least 1, got {n_samples}, {length} and {hop}")
    last = max(0, n_samples - length)
    return sorted({*range(0, last + 1, hop), last})


def write_windows(
    songs: Manifest, folder: str | Path, *, length: int, hop: int, on_song: Callable[[int], None] | None = None
) -> SongWindows:
    """Write the windows of all songs as 16 kHz mono FLAC; those that are there and no older than their song stay.

    Silent windows are left out.

    Args:
        songs: Ids name the files.
        folder: Made if need be.
        length: Samples of a window, at 16 kHz.
        hop: Samples from the beginning of one window to that of the next.
        on_song: Called with the number of songs done.

    Raises:
        DataError: The id of a song leads out of the folder, or no song can be used.
        OSError: The folder cannot be written.
    """
    root = Path(folder) / f"{length}-{hop}"
    entries: list[Entry] = []
    problems: list[str] = []
    for done, song in enumerate(songs.entries, start=1):
        try:
            entries += _windows_of(song, root, length, hop)
        except AudioError as error:
            problems.append(str(error))
        if on_song is not None:
            on_song(done)
    if not entries:
        raise DataError(f"none of {len(songs)} songs can be used; the first: {problems[0] if problems else 'none'}")
    return SongWindows(replace(songs, entries=tuple(entries)), tuple(problems))


def _windows_of(song: Entry, root: Path, length: int, hop: int) -> list[Entry]:
    if not (root / song.id).resolve().is_relative_to(root.resolve()):
        raise DataError(f"the id {song.id!r} leads out of {root}: give the song another")
    waveform = read_audio(song.path, _RATE)
    if len(waveform) < _SHORTEST * _RATE:
        raise AudioError(song.path, f"is {len(waveform) / _RATE:.3g} s long where {_SHORTEST:g} s are needed")
    made, changed = [], song.path.stat().st_mtime
    for start in window_starts(len(waveform), length, hop):
        window = waveform[start : start + length]
        if is_silent(window):
            continue
        path = root / f"{song.id}-{start}.flac"
        if not path.is_file() or path.stat().st_mtime < changed:
            with whole_file(path) as partial:
                soundfile.write(partial, window.numpy(), _RATE, subtype="PCM_16")
        seconds = len(window) / _RATE
        made.append(replace(song, id=f"{song.id}@{start / _RATE:g}", path=path, source=song.id, duration=seconds))
    if not made:
        raise AudioError(song.path, "is silent; record or export it again")
    return made
