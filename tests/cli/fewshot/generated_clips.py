"""Generated clips of eight classes with odd names, split by class, and settings that train on them in a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from tome_audio.data.corpora.sound_events import CLASSES, make_sound_event
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_files import write_label_csv, write_manifest_csv

TRAIN, VALID, TEST = ("7", "300", "cow, hen"), ("-2", "b"), ("owl", "c", "12")
"""Names of classes: numbers that do not count from 0, a comma, letters."""
PER_CLASS = 6
LONG = (4, 5)
"""The clips of a class that are three segments long."""

SMALL = """
episodes: {n_way: 2, k_shot: 1, n_query: 2, per_epoch: 4, valid: 2}
audio: {front_end: fbank, n_frames: 48, n_mels: 32}
encoder: {kind: ast, width: 16, depth: 2, n_heads: 2, fstride: 8, tstride: 8}
trainer: {epochs: 2, batch_size: 2, lr: 1.0e-3, cpu: true}
"""
"""An AST of 15 patches: 3 bands, 5 moments."""
CNN = (
    "--audio.front_end", "log-mel", "--audio.n_frames", "16", "--audio.n_mels", "16", "--encoder.kind", "cnn",
    "--encoder.pool", "[2,2]",
)  # fmt: skip
SPEC = ("--views.kind", "spec", "--views.mask_param", "4", "--views.warp", "4")


def write_clips(folder: Path) -> Path:
    """Write clips and their manifest, in which all are of one part: which class is for what, a split says."""
    entries = []
    for number, label in enumerate((*TRAIN, *VALID, *TEST)):
        for i in range(PER_CLASS):
            path = folder / f"{number}-{i}.wav"
            seconds = 1.2 if i in LONG else 0.49
            soundfile.write(
                path, make_sound_event(CLASSES[number], np.random.default_rng([number, i]), seconds=seconds), 16000
            )
            entries.append(Entry(path.stem, path, (label,), "train"))
    return write_manifest(Manifest(tuple(entries), (*TRAIN, *VALID, *TEST)), folder)


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest_csv(manifest, folder / "manifest.csv")
    write_label_csv(manifest, folder / "labels.csv")
    return folder


def write_split(path: Path, **parts: tuple[str, ...]) -> Path:
    """Write a class split in MetaAudio's format, with other parts than ours where they are given."""
    path.write_text(json.dumps({"train": TRAIN, "val": VALID, "test": TEST, **parts}))
    return path
