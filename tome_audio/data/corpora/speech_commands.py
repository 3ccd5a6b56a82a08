"""Speech Commands v0.01 and v0.02: every word a class, or the ten words, `_unknown_` and `_silence_`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from tome_audio.audio.reading import read_audio
from tome_audio.data.clips import EXTENSIONS, DataError, find_clips
from tome_audio.data.download import Progress, download, unpack
from tome_audio.data.manifest import Entry, Manifest, manifest_of_clips, sorted_labels
from tome_audio.data.whole_file import whole_file

TEN_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
BACKGROUND = "_background_noise_"
URL = "http://download.tensorflow.org/data/speech_commands_{version}.tar.gz"
SHA256 = {
    "v0.01": "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    "v0.02": "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
}
"""Of the archives, as torchaudio lists them."""

_RATE = 16000
_EXTRA_PART = 0.1  # of _unknown_ and of _silence_, against the clips of the ten words
# Stretches of each background recording, so that no split hears the noise of another.
_NOISE_PARTS = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
_SPEAKER = re.compile(r"(?:^|_)([0-9a-f]{6,8})_nohash_\d+$")


def download_speech_commands(folder: str | Path, version: str = "v0.02", on_progress: Progress | None = None) -> Path:
    """Fetch and unpack Speech Commands below `folder`; return the folder for `prepare_speech_commands`.

    Args:
        folder: Where the archive and the unpacked folder go.
        version: "v0.01" (30 words) or "v0.02" (35 words).
        on_progress: See `download`.

    Raises:
        DataError: No such version.
        DownloadError: See `download` and `unpack`.
    """
    if version not in SHA256:
        raise DataError(f"Speech Commands has the versions {', '.join(SHA256)}, not {version!r}")
    name, root = f"speech_commands_{version}", Path(folder)
    if not (root / name).exists():
        url = URL.format(version=version)
        archive = download(url, root / f"{name}.tar.gz", sha256=SHA256[version], on_progress=on_progress).path
        unpack(archive, root / name)
    return root / name


def prepare_speech_commands(
    folder: str | Path, n_labels: int | None = None, *, seed: int = 0, made: str | Path | None = None
) -> Manifest:
    """Make the manifest of a Speech Commands folder with upstream's split.

    `folder` has one folder per word with validation_list.txt and testing_list.txt, as upstream's archives, or a
    split.csv (file, label, speaker, split), which is taken as it is. Files may have another suffix than in the lists.
    Upstream splits by speaker, so a clip in neither list, as of another version, goes where the lists have its speaker.

    With 12 labels, each split gets `_unknown_` drawn from the other words, and `_silence_` cut from the recordings in
    `_background_noise_` at random places and levels: a tenth of the ten words' clips each, rounded up, as
    upstream's own 12-class test set has it. Splits take silence from different stretches of the recordings.

    Args:
        folder: Of one version.
        n_labels: 35 for v0.02, 30 for v0.01, 12 for the ten words and the two extra classes; None takes all there is.
        seed: Of `_unknown_` and `_silence_`.
        made: Where the one-second clips of `_silence_` go; `folder`/_silence_ unless given.

    Raises:
        DataError: The folder lacks words, lists or background noise, or has another number of classes.
    """
    root = Path(folder)
    if n_labels not in (None, 12, 30, 35):
        raise DataError(f"Speech Commands has 35, 30 or 12 labels, not {n_labels}")
    if (root / "split.csv").is_file():
        manifest = manifest_of_clips(find_clips(root), root)
        entries = tuple(dataclasses.replace(e, speaker=_speaker(e.path) or e.speaker) for e in manifest.entries)
        manifest = dataclasses.replace(manifest, entries=entries)
    else:
        words = _word_entries(root)
        entries = words if n_labels != 12 else _twelve(words, root, Path(made or root / SILENCE), seed)
        manifest = Manifest(entries, sorted_labels(entries))
    if n_labels is not None and len(manifest.labels) != n_labels:
        raise DataError(
            f"{root} gives {len(manifest.labels)} classes and not {n_labels}: v0.02 has 35 words and v0.01 30; "
            "a partial copy can be taken with n_labels=None"
        )
    return manifest


def make_silence(noise_folder: str | Path, out: str | Path, counts: Mapping[str, int], seed: int = 0) -> list[Entry]:
    """Cut one-second clips out of background recordings, at random places and levels, and write them as WAV.

    Clip i of a split depends on (seed, split, i) alone and is written only if it is not there yet.

    Args:
        noise_folder: Recordings of 10 s or more.
        out: Where the clips go.
        counts: Clips per split ("train", "valid", "test").
        seed: Of places and levels.

    Raises:
        DataError: No recordings, or a short one.
        AudioError: A recording that cannot be read.
    """
    files = sorted(p for p in Path(noise_folder).glob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise DataError(f"no recordings in {noise_folder}: _silence_ is made from upstream's {BACKGROUND}")
    noises = [read_audio(path, _RATE).numpy() for path in files]
    entries = []
    for split, count in counts.items():
        for i in range(count):
            rng = np.random.default_rng([seed, list(_NOISE_PARTS).index(split), i])
            which = int(rng.integers(len(files)))
            first, last = (round(part * len(noises[which])) for part in _NOISE_PARTS[split])
            if last - first < _RATE:
                raise DataError(f"{files[which]} is too short to cut _silence_ from: it needs 10 s")
            start, level = int(rng.integers(first, last - _RATE + 1)), rng.uniform()
            path = Path(out) / f"{split}_{seed}_{i:05}.wav"
            if not path.exists():
                with whole_file(path) as partial:
                    soundfile.write(partial, level * noises[which][start : start + _RATE], _RATE, subtype="PCM_16")
            name, source = f"{SILENCE}/{path.stem}", f"{files[which].stem}/{split}"
            entries.append(Entry(name, path, (SILENCE,), split, source=source, duration=1.0))
    return entries


def _word_entries(root: Path) -> tuple[Entry, ...]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the unpacked Speech Commands")
    official = {_bare(line): "valid" for line in _lines(root / "validation_list.txt")}
    official |= {_bare(line): "test" for line in _lines(root / "testing_list.txt")}
    by_speaker = {_speaker(Path(name)): split for name, split in official.items()}
    words = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))
    entries = []
    for word in words:
        for file in sorted(p for p in word.glob("*") if p.suffix.lower() in EXTENSIONS):
            name, speaker = f"{word.name}/{file.stem}", _speaker(file)
            split = official.get(name) or by_speaker.get(speaker, "train")
            entries.append(Entry(name, file, (word.name,), split, speaker=speaker))
    if not entries:
        raise DataError(f"{root} has no folders of words with audio: give the unpacked Speech Commands")
    return tuple(entries)


def _twelve(words: tuple[Entry, ...], root: Path, made: Path, seed: int) -> tuple[Entry, ...]:
    rng = np.random.default_rng(seed)
    chosen, counts = [], {}
    for split in _NOISE_PARTS:
        own = [entry for entry in words if entry.split == split]
        wanted = [entry for entry in own if entry.labels[0] in TEN_WORDS]
        others = [entry for entry in own if entry.labels[0] not in TEN_WORDS]
        counts[split] = math.ceil(_EXTRA_PART * len(wanted))
        picked = sorted(rng.permutation(len(others))[: counts[split]].tolist())
        chosen += wanted + [dataclasses.replace(others[i], labels=(UNKNOWN,)) for i in picked]
    return (*chosen, *make_silence(root / BACKGROUND, made, counts, seed))


def _speaker(path: Path) -> str | None:
    # In a flat copy `_unknown_` clips have the word before the speaker: two words of one voice are one speaker.
    match = _SPEAKER.search(path.stem)
    return match[1] if match else None


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"there is no {path}: upstream's archive has it, and without it there is no official split")
    return path.read_text(encoding="utf-8").split()


def _bare(line: str) -> str:
    return Path(line).with_suffix("").as_posix()
