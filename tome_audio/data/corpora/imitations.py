"""A few generated sounds laid out as a corpus is: to try a recipe from end to end without fetching anything."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from tome_audio.data.clips import DataError
from tome_audio.data.corpora.audioset import LABELS, N_CLASSES, TABLES
from tome_audio.data.corpora.sound_events import CLASSES, make_sound_event
from tome_audio.data.corpora.speech_commands import BACKGROUND, TEN_WORDS
from tome_audio.data.whole_file import whole_file

_RATE = 16000
_MADE_UP_WORDS = ("bed", "tree")
_SPEAKERS = {"0a0a0a01": "", "0a0a0a02": "", "0b0b0b01": "validation", "0c0c0c01": "testing"}


def imitate(corpus: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a few short generated clips below `folder` as `corpus` has them; return the folder for its `prepare_`.

    Args:
        corpus: "speechcommands", "esc50", "fsdd" or "audioset".
        folder: Made if need be; a corpus of this name in it is written again.
        seed: Of the sounds.

    Raises:
        DataError: No such corpus.
    """
    if corpus not in _WRITERS:
        raise DataError(f"there is no imitation of {corpus!r}: choose one of {', '.join(_WRITERS)}")
    root = Path(folder) / f"{corpus}-imitation"
    _WRITERS[corpus](root, seed)
    return root


def _speech_commands(root: Path, seed: int) -> None:
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate((*TEN_WORDS, *_MADE_UP_WORDS)):
        for speaker, split in _SPEAKERS.items():
            name = f"{word}/{speaker}_nohash_0.wav"
            _write(root / name, number, (seed, number, int(speaker, 16)))
            if split:
                lists[split].append(name)
    for split, names in lists.items():
        _write_text(root / f"{split}_list.txt", "\n".join(names) + "\n")
    noise = np.random.default_rng(seed).normal(0, 0.05, 12 * _RATE)
    soundfile.write(_parent(root / BACKGROUND / "white_noise.wav"), noise, _RATE)


def _esc50(root: Path, seed: int) -> None:
    rows = []
    for fold in range(1, 6):
        for target in range(4):
            for take in range(2):
                source = f"{fold}{target}{take}"
                name = f"{fold}-{source}-A-{target}.wav"
                _write(root / "audio" / name, target, (seed, fold, target, take))
                rows.append([name, fold, target, CLASSES[target], "False", source, "A"])
    _write_rows(
        root / "meta" / "esc50.csv", ["filename", "fold", "target", "category", "esc10", "src_file", "take"], rows
    )


def _fsdd(root: Path, seed: int) -> None:
    for digit in range(10):
        for number, speaker in enumerate(("ann", "bob")):
            for index in (0, 5, 6):
                name = f"{digit}_{speaker}_{index}.wav"
                _write(root / "recordings" / name, digit, (seed, digit, number, index), seconds=0.5)


def _audioset(root: Path, seed: int) -> None:
    mids = [f"/m/imitation{i:03}" for i in range(N_CLASSES)]
    _write_rows(
        root / LABELS, ["index", "mid", "display_name"], [[i, mid, f"Sound, {i}"] for i, mid in enumerate(mids)]
    )
    for number, (name, table) in enumerate(TABLES.items()):
        lines = []
        for i in range(8):
            video, first, second = f"imitation{number}{i}", i % 4, (i + 1) % 4
            path = root / "audio" / f"Y{video}.wav"
            _write(path, first, (seed, number, i))
            lines.append(f'{video}, 0.000, 10.000, "{mids[first]},{mids[second]}"')
        head = f"# An imitation of {name}\n# num_ytids=8, num_segs=8\n# YTID, start_seconds, end_seconds, labels\n"
        _write_text(root / table, head + "\n".join(lines) + "\n")


_WRITERS: dict[str, Callable[[Path, int], None]] = {
    "speechcommands": _speech_commands,
    "esc50": _esc50,
    "fsdd": _fsdd,
    "audioset": _audioset,
}


def _write(path: Path, number: int, seed: tuple[int, ...], seconds: float = 1.0) -> None:
    samples = make_sound_event(CLASSES[number % len(CLASSES)], np.random.default_rng(seed), _RATE, seconds)
    soundfile.write(_parent(path), samples, _RATE)


def _write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
