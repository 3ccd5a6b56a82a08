"""Run by torchrun, or alone: trains, writes the losses, and stops and resumes a run where one process got a signal.

Usage: process_run.py FOLDER BATCH_SIZE
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from small_run import Labels, NoisySounds, Recorder, make_model, make_trainer, same_tensors, taught_run
from torch import nn
from torch.nn import functional as F

from tome_audio.models import AST
from tome_audio.patch import apply_patch
from tome_audio.tasks import Between, Classification, MergedTask, UnmergedSelf
from tome_audio.training.errors import TrainingInterrupted
from tome_audio.training.settings import TrainerSettings
from tome_audio.training.trainer import Trainer, TrainingData

# 56 clips: four steps of twelve, and one of eight.
SETTINGS = {"train": NoisySounds(56), "accumulate": 2, "epochs": 3, "average": (2, 3), "save_every": 0}


def model():
    made = make_model(0.0)
    made[2] = nn.Identity()  # statistics of a batch depend on how it is cut
    return made


class Signalled(Labels):
    """The last process gets a SIGTERM in its fifth step."""

    def loss(self, model, batch, step, generator):
        if step == 4 and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch, step, generator)


def distill(student, target, teacher, *, known):
    soft = (student - teacher).square().mean()
    hard = nn.functional.cross_entropy(student, target)
    return 0.5 * hard + soft, hard, soft


def merged_losses(folder: Path, batch_size: int) -> list[float]:
    """An AST that merges an r drawn for each step, beside its own unmerged answer."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sizes = {"n_mels": 32, "n_frames": 64, "fstride": 8, "tstride": 8}
    student = apply_patch(AST(None, width=32, depth=2, n_heads=2, n_classes=3, **sizes))
    features = torch.randn(16, 64, 32, generator=generator)
    clips = [{"features": x, "labels": torch.tensor(i % 3)} for i, x in enumerate(features)]
    task = MergedTask(Classification(distillation=distill, teacher=UnmergedSelf()), Between(1, 5), evaluate=0)
    # Where there is no accelerator, processes must find each other without being told.
    settings = TrainerSettings(epochs=3, batch_size=batch_size, cpu=torch.accelerator.is_available())
    seen = Recorder()
    Trainer(task, student, TrainingData(clips, clips), settings, folder, callbacks=[seen]).run()
    assert student.r == 0  # that of the evaluation
    return [record.loss for record in seen.steps]


class Weighed(Labels):
    """Scored by the loss too, which hears of small changes."""

    def metrics(self, outputs):
        return {**super().metrics(outputs), "loss": float(F.cross_entropy(outputs["logits"], outputs["labels"]))}


def normalised_figures(folder: Path, ema_decay: float | None) -> dict[str, float]:
    """What a model with batch normalisation scored: its weights at the end, and their mean over epochs."""
    trainer = make_trainer(folder, make_model(0.0), Weighed(0.0), ema_decay=ema_decay, **SETTINGS)
    result = trainer.run()
    return {"last": result.records[-1].metrics["loss"], "averaged": result.averaged_metrics["loss"]}


def main(folder: Path, batch_size: int) -> None:
    seen, whole = Recorder(), model()
    trainer = make_trainer(folder / "whole", whole, Labels(0.0), [seen], batch_size=batch_size, **SETTINGS)
    result = trainer.run()
    stopped_after = -1
    if trainer.devices.n_processes > 1:
        try:
            make_trainer(folder / "cut", model(), Signalled(0.0), batch_size=batch_size, **SETTINGS).run()
        except TrainingInterrupted as error:
            stopped_after = int(str(error).split("after step ")[1].split(":")[0])
        again = model()
        make_trainer(folder / "cut", again, Labels(0.0), batch_size=batch_size, **SETTINGS).run(resume=True)
        assert same_tensors(whole.state_dict(), again.state_dict())
    merged = merged_losses(folder / "merged", batch_size)
    normalised = {name: normalised_figures(folder / name, decay) for name, decay in (("plain", None), ("ema", 0.9))}
    taught = taught_run(folder / "taught", batch_size, 2)
    if trainer.devices.is_main:
        figures = {
            "losses": [record.loss for record in seen.steps],
            "largest": [record.logs["largest"] for record in seen.steps],
            "metrics": [record.metrics for record in result.records],
            "merged losses": merged,
            "normalised": normalised,
            "taught": taught,
            "processes": trainer.devices.n_processes,
            "stopped after": stopped_after,
        }
        (folder / "figures.json").write_text(json.dumps(figures))
    trainer.devices.wait()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
