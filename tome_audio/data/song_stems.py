"""Songs on disk as amplitudes on a scale of semitones, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.audio.reading import AudioError
from tome_audio.audio.vqt import VqtFrontEnd
from tome_audio.data.clips import EXTENSIONS, DataError, clip_id
from tome_audio.data.feature_cache import FeatureCache

STEMS = "stems"


@dataclass(frozen=True)
class Stems:
    """A song as the files of its stems, all of one length; a song that nobody took apart is one file."""

    id: str
    paths: tuple[Path, ...]


def find_stems(folder: str | Path, part: str) -> list[Stems]:
    """Return the songs of `folder/stems/part`: a folder of files for each, or one file.

    Raises:
        DataError: There is no such folder, or no song in it.
    """
    root = Path(folder) / STEMS / part
    if not root.is_dir():
        raise DataError(
            f"{root} does not exist: give a folder that `tome-audio sampleid generate` has written, with "
            f"{STEMS}/{part}/SONG/STEM.flac"
        )
    songs: dict[str, list[Path]] = {}
    for path in root.rglob("*"):
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            songs.setdefault(clip_id(path, root).split("/")[0], []).append(path)
    if not songs:
        raise DataError(f"{root} holds no audio: generate the songs again")
    return [Stems(name, tuple(sorted(paths))) for name, paths in sorted(songs.items())]


def amplitudes(song: Stems, front_end: VqtFrontEnd, cache: FeatureCache | None = None) -> Tensor:
    """Return the amplitudes (S stems, T frames, F bins) of a song in half precision.

    Raises:
        AudioError: A stem cannot be read, or is not as long as the first.
    """
    found = [_amplitude(path, front_end, cache) for path in song.paths]
    for path, stem in zip(song.paths, found, strict=True):
        if len(stem) != len(found[0]):
            raise AudioError(
                path,
                f"has {len(stem)} frames, {song.paths[0].name} {len(found[0])}: the stems of a song are of one length",
            )
    return torch.stack(found)


def all_amplitudes(
    songs: Sequence[Stems],
    front_end: VqtFrontEnd,
    *,
    n_frames: int,
    cache: FeatureCache | None = None,
    on_song: Callable[[int], None] | None = None,
) -> tuple[list[Tensor], list[str]]:
    """Return the amplitudes of all songs that fill a window and are not silent, and a line on each that is left out.

    Args:
        songs: Of one part.
        front_end: Makes the spectrograms.
        n_frames: Of a window.
        cache: Keeps amplitudes on disk.
        on_song: Called with the number of songs done.
    """
    kept, problems = [], []
    for number, song in enumerate(songs):
        try:
            found = amplitudes(song, front_end, cache)
        except AudioError as error:
            problems.append(str(error))
        else:
            if found.shape[1] < n_frames:
                problems.append(f"{song.id}: has {found.shape[1]} frames, a window {n_frames}")
            elif not bool((found > 0).any()):
                problems.append(f"{song.id}: is silent")
            else:
                kept.append(found)
        if on_song is not None:
            on_song(number + 1)
    return kept, problems


def _amplitude(path: Path, front_end: VqtFrontEnd, cache: FeatureCache | None) -> Tensor:
    def compute() -> Tensor:
        # Amplitudes and not powers: half precision holds 16 bits' range of them.
        return front_end.power(read_audio(path, front_end.sample_rate)).sqrt().half()

    if cache is None:
        return compute()
    if not path.is_file():
        raise AudioError(path, "no such file; check the path", "missing")
    return cache.get(path, compute)
