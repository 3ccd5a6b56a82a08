"""Example clips for the page: audio files of a folder, some of each of its sub-folders."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

import soundfile

from tome_audio.cli.clip_view import SAMPLE_RATE
from tome_audio.cli.page.hear import ClipError, read_clip

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
MOST_EXAMPLES = 24


def find_examples(folder: str | Path, most: int = MOST_EXAMPLES) -> dict[str, Path]:
    """Return up to `most` audio files below a folder by name (`bell 0` for bell/0.wav), from each sub-folder in turn.

    Raises:
        ValueError: if it is not a folder, or holds no audio files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"--examples {folder} is not a folder")
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            by_folder[path.parent].append(path)
    in_turn = [path for turn in zip_longest(*by_folder.values()) for path in turn if path is not None][:most]
    if not in_turn:
        raise ValueError(f"--examples {folder} holds no audio files ({', '.join(ENDINGS)})")
    return {" ".join(path.relative_to(root).with_suffix("").parts): path for path in sorted(in_turn)}


def copy_examples(
    examples: dict[str, Path], folder: Path, max_seconds: float
) -> tuple[dict[str, Path], list[ClipError]]:
    """Write clips into a folder as WAVs that every browser plays; return them by name, and what was wrong with others.

    Raises:
        OSError: if the folder cannot be written.
    """
    copies, errors = {}, []
    for number, (name, path) in enumerate(examples.items()):
        try:
            waveform = read_clip(path, max_seconds)
        except ClipError as error:
            errors.append(error)
            continue
        copies[name] = folder / str(number) / f"{name}.wav"
        copies[name].parent.mkdir(parents=True)
        soundfile.write(copies[name], waveform.numpy(), SAMPLE_RATE)
    return copies, errors
