"""The Free Spoken Digit Dataset: 3000 spoken digits of six speakers at 8 kHz."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from tome_audio.data.clips import DataError
from tome_audio.data.download import Progress, download, unpack
from tome_audio.data.manifest import Entry, Manifest, find_manifest
from tome_audio.data.splitting import set_apart

RELEASE = "1.0.10"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v{RELEASE}.zip"


def download_fsdd(folder: str | Path, on_progress: Progress | None = None) -> Path:
    """Fetch and unpack the data set below `folder`; return the folder for `prepare_fsdd`.

    Upstream publishes no checksum of its archive; damage shows in `check_manifest`.

    Raises:
        DownloadError: See `download` and `unpack`.
    """
    root = Path(folder)
    if not (root / "fsdd").exists():
        archive = download(URL, root / f"fsdd-{RELEASE}.zip", on_progress=on_progress).path
        unpack(archive, root / "fsdd", inside=f"free-spoken-digit-dataset-{RELEASE}")
    return root / "fsdd"


def prepare_fsdd(
    folder: str | Path,
    *,
    test_speakers: Collection[str] = (),
    valid_speakers: Collection[str] = (),
    valid_part: float = 0.0,
    seed: int = 0,
) -> Manifest:
    """Make the manifest with upstream's split (index 0 to 4 of each speaker is test), or with whole speakers apart.

    Upstream's split has all speakers on both sides, so it says nothing about new voices.

    Args:
        folder: With recordings/{digit}_{speaker}_{index}.wav or of another suffix.
        test_speakers: All their clips are test and nobody else's; empty takes upstream's split.
        valid_speakers: All their clips are valid; only with `test_speakers`.
        valid_part: Of every digit in train to set apart as valid, clip by clip; 0 for none.
        seed: Of the draw of `valid_part`.

    Raises:
        DataError: Not such a folder, an unknown speaker, or speakers that exclude each other.
    """
    manifest = find_manifest(folder)
    speakers = {entry.speaker for entry in manifest.entries if entry.speaker is not None}
    if not speakers:
        raise DataError(f"{folder} has no recordings named {{digit}}_{{speaker}}_{{index}}")
    test, valid = set(test_speakers), set(valid_speakers)
    if unknown := (test | valid) - speakers:
        raise DataError(
            f"no recordings of {', '.join(sorted(unknown))}: the speakers are {', '.join(sorted(speakers))}"
        )
    if test & valid or (valid and not test) or (test | valid) == speakers:
        raise DataError("give test_speakers, and valid_speakers that are others, and leave somebody to train on")
    if test:
        entries = tuple(_by_speaker(entry, test, valid) for entry in manifest.entries)
        manifest = dataclasses.replace(manifest, entries=entries)
    return set_apart(manifest, valid_part, by="id", seed=seed) if valid_part else manifest


def _by_speaker(entry: Entry, test: set[str], valid: set[str]) -> Entry:
    split = "test" if entry.speaker in test else "valid" if entry.speaker in valid else "train"
    return dataclasses.replace(entry, split=split)
