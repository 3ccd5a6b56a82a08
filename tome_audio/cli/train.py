"""`tome-audio train`: a recipe's config in, a checkpoint that every other command takes out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tome_audio.audio.features import AstStatistics
from tome_audio.cli.corpora import CorpusConfig
from tome_audio.cli.counts import use_threads
from tome_audio.cli.output import console
from tome_audio.cli.train_build import build_model, build_task, read_answer
from tome_audio.cli.train_config import (
    ClipsConfig,
    DistillConfig,
    FeatureConfig,
    LossConfig,
    MergingConfig,
    ModelConfig,
)
from tome_audio.cli.train_data import find_parts, find_statistics, is_main_process, make_data
from tome_audio.cli.training_run import best_weights, recipe_facts, run_trainer, write_record
from tome_audio.data.training_clips import Augmentation
from tome_audio.installation import import_extra
from tome_audio.models import save_checkpoint
from tome_audio.training.records import TrainingResult
from tome_audio.training.run_folder import read_weights
from tome_audio.training.settings import TrainerSettings

_CORPUS, _CLIPS, _FEATURES, _AUGMENT = CorpusConfig(), ClipsConfig(), FeatureConfig(), Augmentation()
_MODEL, _LOSS, _DISTILL, _MERGE = ModelConfig(), LossConfig(), DistillConfig(), MergingConfig()
_TRAINER = TrainerSettings(epochs=30)


def train(
    data: str,
    out: str = "runs/train",
    resume: bool = False,
    threads: int | None = None,
    tensorboard: bool = False,
    corpus: CorpusConfig = _CORPUS,
    clips: ClipsConfig = _CLIPS,
    features: FeatureConfig = _FEATURES,
    augment: Augmentation = _AUGMENT,
    model: ModelConfig = _MODEL,
    loss: LossConfig = _LOSS,
    distill: DistillConfig = _DISTILL,
    merge: MergingConfig = _MERGE,
    trainer: TrainerSettings = _TRAINER,
) -> int:
    """Train a model on labelled clips, with or without a teacher, merging or not.

    Every clip is looked at before training starts. Writes the weights that validated best as model.safetensors, the
    history as epochs.csv and steps.csv, and all options with commit, versions and machine as train.json into --out.
    Under accelerate launch or torchrun the same command trains in several processes.

    Args:
        data: Folder that `tome-audio manifest` has written, a manifest CSV, an AST datafile, or the corpus itself.
        out: Folder for checkpoints and results; made if need be.
        resume: Go on from the newest checkpoint in --out, if there is one.
        threads: CPU threads; none leaves PyTorch's choice.
        tensorboard: Write curves for TensorBoard too.
        corpus: Which clips the folder of a corpus gives; a manifest says so itself.
        clips: How clips are read.
        features: The model's input.
        augment: What is random about training clips.
        model: What is trained.
        loss: What is minimised.
        distill: A teacher beside the labels.
        merge: Merging while training.
        trainer: Optimiser, schedule, precision and the like.
    """
    use_threads(threads)
    import_extra("accelerate", "training", "recipes")  # said before an hour of reading clips
    options: dict[str, Any] = {
        "corpus": corpus, "clips": clips, "features": features, "augment": augment, "model": model, "loss": loss,
        "distill": distill, "merge": merge,
    }  # fmt: skip
    recipe = {name: asdict(option) for name, option in options.items()}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    parts = find_parts(data, corpus, clips, folder / "problems.csv")
    statistics = find_statistics(features, parts.train, trainer.seed)
    names, ids = parts.train.names, [entry.id for entry in parts.train.entries]
    answer = read_answer(distill, names, ids, loss.binary)
    torch.manual_seed(trainer.seed)
    network = build_model(model, features, names)
    task = build_task(loss, distill, merge, network, statistics, multi_label=clips.multi_label, seed=trainer.seed)
    sets = make_data(parts, clips, features, augment, statistics, answer, trainer.seed)
    if is_main_process():
        n_valid = 0 if parts.valid is None else len(parts.valid)
        n_weights = sum(weights.numel() for weights in network.parameters())
        console().print(
            f"training {model.kind} ({n_weights:,} parameters) on {len(parts.train)} clips, {n_valid} to validate on"
        )
    result = run_trainer(task, network, sets, trainer, folder, _facts(recipe, ids), resume, tensorboard)
    if is_main_process():
        facts = {"data": data, **recipe, "trainer": asdict(trainer)}
        extra = {"multi_label": clips.multi_label, "skipped": parts.n_skipped}
        _finish(folder, network, task, result, statistics, facts, extra)
    return 1 if parts.n_skipped else 0


def _facts(recipe: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """Return what a resumed run must agree on: not where things lie, but what they are."""
    places = {
        ("clips", "cache"),
        ("clips", "in_memory"),
        ("clips", "check"),
        ("distill", "logits"),
        ("corpus", "audio"),
    }
    return {**recipe_facts(recipe, places), "first clips": ids[:3], "last clip": ids[-1]}


def _finish(
    folder: Path,
    network: torch.nn.Module,
    task: Any,
    result: TrainingResult,
    statistics: AstStatistics,
    facts: dict[str, Any],
    extra: dict[str, Any],
) -> None:
    """Write the checkpoint of the weights that validated best, and what they came from."""
    which, path, figures = best_weights(task, result)
    network.load_state_dict(read_weights(path))
    features = {"mean": statistics.mean, "std": statistics.std, "n_frames": statistics.n_frames}
    saved = save_checkpoint(
        folder / "model.safetensors", network, features=features, extra={**extra, "weights": which, "valid": figures}
    )
    write_record(folder, saved, facts, extra, which, figures, result)
