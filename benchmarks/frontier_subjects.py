"""The models of the frontier tables and the clips they are scored on, which took no part in training or fitting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from cases import DATA, KWT_WEIGHTS
from torch import Tensor
from train_small import RECIPES, RUNS

from tome_audio.cli.loading import LoadedModel
from tome_audio.data.clips import find_clips, load_waveforms

_SILENCE = "_silence_"


@dataclass(frozen=True)
class Subject:
    """A model file, the folder its clips are found in, which splits of them are scored, and the figure's title."""

    model: Path
    clips: Path
    splits: tuple[str, ...]
    title: str
    targets: tuple[float, ...] = (2, 3, 4, 5, 6, 8)


class Clips(NamedTuple):
    """Inputs of the model (n, ...) and class indices (n,)."""

    inputs: Tensor
    target: Tensor


_TITLES = {
    "ast16-fsdd": "AST with 16x16 patches, {} spoken digits that it was not trained on",
    "ast-time-fsdd": "AST with time-only tokens, {} spoken digits that it was not trained on",
    "ast16-esc50": "AST with 16x16 patches, {} clips of the fifth fold of ESC-50",
}
SUBJECTS = {
    "kwt1": Subject(
        DATA / KWT_WEIGHTS, DATA / "speech_commands", ("valid", "test"),
        "KWT-1, {} spoken clips that took no part in fitting", (2, 3, 4, 5, 6, 8, 10, 12),
    ),
    **{
        name: Subject(RUNS / f"{name}.safetensors", RUNS / recipe.corpus, ("test",), _TITLES[name])
        for name, recipe in RECIPES.items()
    },
}  # fmt: skip


def subject_of(table: Path) -> tuple[str, Subject]:
    """Return the name and subject that a table's file name tells: frontier-NAME-torch2.11-cpu.csv.

    Raises:
        ValueError: if it tells none that is known, or its model has not been trained.
    """
    name = table.stem.removeprefix("frontier-").partition("-torch")[0]
    if name not in SUBJECTS or not table.stem.startswith("frontier-"):
        known = ", ".join(SUBJECTS)
        raise ValueError(f"{table.name} names no model: write frontier-NAME-torch2.11-cpu.csv, NAME one of {known}")
    subject = SUBJECTS[name]
    if not subject.model.is_file():
        how = "set TOME_AUDIO_DATA" if name == "kwt1" else f"run python benchmarks/train_small.py {name}"
        raise ValueError(f"there is no {subject.model}: {how}")
    return name, subject


def read_clips(subject: Subject, loaded: LoadedModel) -> Clips:
    """Read the clips that a subject is scored on, silence left out, as the model takes them."""
    names = loaded.need_labels()
    assert loaded.prepare is not None  # a model that names what it hears takes audio
    found = [clip for clip in find_clips(subject.clips) if clip.split in subject.splits and clip.label != _SILENCE]
    read = load_waveforms(found)
    if read.errors:
        raise read.errors[0]
    target = torch.tensor([names.index(clip.label) for clip in read.clips])
    starts = range(0, len(target), 64)
    return Clips(torch.cat([loaded.prepare(read.waveforms[i : i + 64]) for i in starts]), target)
