"""Train the small models of the frontier benchmark from scratch, on real audio and a CPU.

    python benchmarks/train_small.py ast16-fsdd

Writes `runs/small/NAME.safetensors`, which git ignores, the list of clips `runs/small/CORPUS/split.csv` that
`tome-audio fit --data runs/small/CORPUS` reads, and `benchmarks/results/train-NAME.json`. A run that was stopped goes
on where it was. Needs the real data (`TOME_AUDIO_DATA`).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import DATA
from torch import Tensor

from tome_audio.audio import ast_features
from tome_audio.audio.augment import spec_augment, time_roll
from tome_audio.data.clips import Clip, DataError, LoadedClips, find_clips, load_waveforms
from tome_audio.data.statistics import feature_statistics
from tome_audio.models import AST, save_checkpoint
from tome_audio.profiling import environment
from tome_audio.training.loop import EpochRecord, accuracy, fit

RUNS = Path("runs", "small")
RESULTS = Path(__file__).parent / "results"
HELD_OUT_TAKES = 10  # of fifty by each speaker of each digit
HELD_OUT_FOLD = "5"


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained.

    `ast` holds arguments of `AST`; the others are those of `training.loop.fit` and `training.augment`, in frames of
    10 ms and mel bins.
    """

    corpus: str
    ast: dict[str, Any]
    epochs: int
    lr: float = 1e-3
    batch_size: int = 32
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    max_freq: int = 16
    max_time: int = 10
    max_shift: int = 8
    seed: int = field(default=0)


_SMALL = {"width": 64, "depth": 8, "n_heads": 2}
_FSDD = partial(Recipe, "fsdd", epochs=25, batch_size=16)
RECIPES: dict[str, Recipe] = {
    "ast16-fsdd": _FSDD({**_SMALL, "n_frames": 88, "patch": (16, 16), "fstride": 10, "tstride": 10}),
    "ast-time-fsdd": _FSDD({**_SMALL, "n_frames": 88, "patch": (128, 2), "fstride": 128, "tstride": 1}, epochs=15),
    "ast16-esc50": Recipe(
        "esc50",
        {**_SMALL, "n_frames": 496, "n_mels": 64, "patch": (16, 16), "fstride": 16, "tstride": 16},
        epochs=40, max_time=60, max_shift=240,
    ),
}  # fmt: skip


def split_fsdd(folder: Path) -> list[Clip]:
    """Return the clips of FSDD, the first takes of each speaker in test: twice those that upstream names."""
    return [
        replace(clip, split="test" if int(clip.path.stem.rpartition("_")[2]) < HELD_OUT_TAKES else "train")
        for clip in find_clips(folder)
    ]


def split_esc50(folder: Path) -> list[Clip]:
    """Return the clips of ESC-50, those of the fold held out in test."""
    with (folder / "meta" / "esc50.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [
        Clip(
            (folder / "audio" / row["filename"]).with_suffix(".flac"),
            row["category"],
            "test" if row["fold"] == HELD_OUT_FOLD else "train",
        )
        for row in rows
    ]


CORPORA: dict[str, Callable[[Path], list[Clip]]] = {"fsdd": split_fsdd, "esc50": split_esc50}


def write_split(clips: Sequence[Clip], folder: Path) -> None:
    """Write `split.csv` as `find_clips` reads it; the files stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "split", "speaker"))
        writer.writerows((clip.path.resolve(), clip.label, clip.split, clip.speaker or "") for clip in clips)


def train(
    name: str, recipe: Recipe, clips: Sequence[Clip], path: Path, on_epoch: Callable[[EpochRecord], None] | None = None
) -> dict[str, Any]:
    """Train one model on the clips in train, save it to `path`, and return its facts, scored on those in test."""
    parts = {split: load_waveforms([clip for clip in clips if clip.split == split]) for split in ("train", "test")}
    errors = [error for part in parts.values() for error in part.errors]
    if errors:
        raise errors[0]
    labels = tuple(sorted({clip.label for clip in parts["train"].clips}))
    torch.manual_seed(recipe.seed)
    model = AST(None, n_classes=len(labels), labels=labels, **recipe.ast)
    statistics = feature_statistics(parts["train"].waveforms, model.n_frames, n_mels=model.n_mels)
    features = {"mean": statistics.mean, "std": statistics.std}
    train_data, test_data = (_features_and_classes(part, model, features) for part in parts.values())

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        rolled = time_roll(x, generator, recipe.max_shift)
        return spec_augment(rolled, generator, recipe.max_freq, recipe.max_time)

    path.parent.mkdir(parents=True, exist_ok=True)
    state = path.with_suffix(".state")
    history = fit(
        model, train_data, epochs=recipe.epochs, batch_size=recipe.batch_size, lr=recipe.lr, seed=recipe.seed,
        weight_decay=recipe.weight_decay, label_smoothing=recipe.label_smoothing, augment=augment,
        on_epoch=on_epoch, state_path=state,
    )  # fmt: skip
    facts = {
        "model": name, **asdict(recipe), "grid": list(model.grid), "n_tokens": model.n_tokens,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "clips_train": len(parts["train"].clips), "clips_test": len(parts["test"].clips),
        "accuracy_test": 100 * accuracy(model, *test_data), "last_loss": history.records[-1].loss,
        "seconds": round(history.seconds),
    }  # fmt: skip
    save_checkpoint(path, model, features={**features, "n_frames": model.n_frames}, extra={"recipe": name})
    state.unlink()  # finished: the next run starts anew
    return facts


def _features_and_classes(part: LoadedClips, model: AST, features: dict[str, float]) -> tuple[Tensor, Tensor]:
    """Return features (n, T, F) and class indices (n,)."""
    found = ast_features(part.waveforms, n_frames=model.n_frames, n_mels=model.n_mels, **features).values
    return found, torch.tensor([(model.labels or ()).index(clip.label) for clip in part.clips])


def main() -> None:
    """Train the model named on the command line."""
    parser = argparse.ArgumentParser(description="Train a small model of the frontier benchmark.")
    parser.add_argument("name", choices=RECIPES)
    name = parser.parse_args().name
    recipe = RECIPES[name]
    folder = DATA / recipe.corpus
    if not folder.is_dir():
        raise DataError(f"no {recipe.corpus} at {folder}: set TOME_AUDIO_DATA")
    clips = CORPORA[recipe.corpus](folder)
    write_split(clips, RUNS / recipe.corpus)

    def report(record: EpochRecord) -> None:
        print(f"epoch {record.epoch + 1}: loss {record.loss:.3f}, {record.seconds:.0f} s", flush=True)

    facts = train(name, recipe, clips, RUNS / f"{name}.safetensors", report)
    facts |= {"command": f"python benchmarks/train_small.py {name}", "environment": environment()}
    (RESULTS / f"train-{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{facts['accuracy_test']:.2f} % of {facts['clips_test']} test clips, {facts['seconds']} s")


if __name__ == "__main__":
    main()
