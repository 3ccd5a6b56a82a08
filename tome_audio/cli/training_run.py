"""What every command that trains does with its trainer and its folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from tome_audio.cli.output import console, progress, write_whole
from tome_audio.profiling import environment
from tome_audio.training.batches import TrainingData
from tome_audio.training.callbacks import Callback, CsvLog, ProgressBar, TensorBoardLog
from tome_audio.training.records import TrainingResult
from tome_audio.training.settings import TrainerSettings
from tome_audio.training.trainer import Trainer

Place = tuple[str, str]
"""A group of options, and one of them."""


def run_trainer(
    task: Any,
    network: nn.Module,
    sets: TrainingData,
    trainer: TrainerSettings,
    folder: Path,
    facts: dict[str, Any],
    resume: bool,
    tensorboard: bool,
) -> TrainingResult:
    """Train with a progress bar; epochs.csv and steps.csv go into the folder, and curves where they are asked for."""
    with progress() as bars:
        callbacks: list[Callback] = [CsvLog(folder), ProgressBar(bars)]
        callbacks += [TensorBoardLog(folder / "tensorboard")] if tensorboard else []
        return Trainer(task, network, sets, trainer, folder, callbacks=callbacks, facts=facts).run(resume)


def recipe_facts(recipe: dict[str, dict[str, Any]], places: Collection[Place]) -> dict[str, Any]:
    """Return the options that a resumed run must agree on: all but `places`, which say where things lie."""
    return {
        f"{group}.{name}": json.loads(json.dumps(value))
        for group, options in recipe.items()
        for name, value in options.items()
        if (group, name) not in places
    }


def best_weights(task: Any, result: TrainingResult) -> tuple[str, Path, dict[str, float]]:
    """Return which weights validated best, where they are, and their figures; without validation the last ones."""
    if result.best is None or result.best_weights is None:
        if result.averaged_weights is not None:
            return "mean over epochs", result.averaged_weights, {}
        return "last epoch", result.last_weights, {}
    best = f"epoch {result.best.epoch + 1}", result.best_weights, result.best.metrics
    if result.averaged_weights is None or task.score(result.averaged_metrics) < (result.best.score or 0.0):
        return best
    return "mean over epochs", result.averaged_weights, result.averaged_metrics


def write_record(
    folder: Path,
    saved: Path,
    options: dict[str, Any],
    extra: dict[str, Any],
    which: str,
    figures: dict[str, float],
    result: TrainingResult,
) -> None:
    """Write train.json, what the checkpoint `saved` came from, and say so.

    Args:
        folder: Of the run.
        saved: The checkpoint.
        options: All options.
        extra: Other facts.
        which: Which weights were saved.
        figures: Theirs, in validation.
        result: Of the trainer.
    """
    text = {"options": options, **extra, "weights": which, "valid": figures, "environment": environment()}
    text["seconds"] = sum(record.seconds for record in result.records)
    write_whole(folder / "train.json", json.dumps(text, indent=2) + "\n")
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    console().print(f"{which}{': ' + shown if shown else ''}; written: {saved}, epochs.csv, train.json")
