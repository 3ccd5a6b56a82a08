"""A run of a second: a small model with dropout, clips with noise drawn for each, every kind of average."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from tome_audio.losses import distillation_loss
from tome_audio.tasks import Classification
from tome_audio.training.callbacks import Callback
from tome_audio.training.schedules import LearningRate
from tome_audio.training.settings import TrainerSettings
from tome_audio.training.trainer import Trainer, TrainingData


class NoisySounds:
    """Clips (6, 10) of three classes, class c louder in bins 3c to 3c + 2; drawn ones have noise of their own."""

    def __init__(self, n: int = 52, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % 3
        louder = (torch.arange(10) // 3 == self.labels[:, None]).float()
        self.features = torch.randn(n, 6, 10, generator=generator) + 1.5 * louder[:, None, :]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"features": self.features[index], "labels": self.labels[index]}

    def draw(self, index, generator):
        clip = self[index]
        return {**clip, "features": clip["features"] + 0.1 * torch.randn(6, 10, generator=generator)}


class TaughtSounds(NoisySounds):
    """Clips with a teacher who knows about two in five of them, never the first three."""

    def __init__(self, n: int = 56):
        super().__init__(n)
        generator = torch.Generator().manual_seed(5)
        self.teacher = 3 * torch.randn(n, 3, generator=generator)
        self.known = torch.rand(n, generator=generator) < 0.4
        self.known[:3] = False

    def __getitem__(self, index):
        return {**super().__getitem__(index), "teacher": self.teacher[index], "teacher_known": self.known[index]}


class Labels:
    """The smallest task: cross-entropy, scaled noise on the batch, accuracy."""

    def __init__(self, noise: float = 0.1):
        self.noise = noise

    def loss(self, model, batch, step, generator):
        noise = torch.randn(batch["features"].shape, generator=generator)
        logits = model(batch["features"] + self.noise * noise.to(batch["features"].device))
        return F.cross_entropy(logits, batch["labels"]), {"largest": logits.abs().max()}

    def outputs(self, model, batch):
        return {"logits": model(batch["features"]), "labels": batch["labels"]}

    def metrics(self, outputs):
        logits, labels = outputs["logits"], outputs["labels"]
        return {"accuracy": (logits.argmax(1) == labels).double().mean().item(), "clips": len(labels)}

    def score(self, metrics):
        return metrics["accuracy"]


def make_model(dropout: float = 0.2) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(60, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 3)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


SETTINGS = {
    "epochs": 4, "batch_size": 6, "accumulate": 2, "lr": 1e-2, "ema_decay": 0.9, "average": (2, 4), "save_every": 2,
    "learning_rate": LearningRate("cosine", warmup_steps=3), "cpu": True,
}  # fmt: skip
"""Five steps an epoch, the last with four clips; twenty in all."""


class Recorder(Callback):
    """Keeps the records, and does something at one step."""

    def __init__(self, at=None, do=None):
        self.steps, self.epochs, self.at, self.do = [], [], at, do

    def on_step(self, record):
        self.steps.append(record)
        if record.step == self.at:
            self.do()

    def on_epoch(self, record):
        self.epochs.append(record)


def make_trainer(folder, model=None, task=None, callbacks=(), valid=True, train=None, **changes):
    data = TrainingData(NoisySounds() if train is None else train, NoisySounds(31, seed=1) if valid else None)
    settings = TrainerSettings(**{**SETTINGS, **changes})
    model = make_model() if model is None else model
    return Trainer(Labels() if task is None else task, model, data, settings, folder, callbacks=callbacks)


def taught_run(folder, batch_size, accumulate=1):
    """What each step lost, all of it and to the teacher, and the weights at the end."""
    model, seen = make_model(0.0), Recorder()
    model[2] = nn.Identity()  # statistics of a batch depend on how it is cut
    task = Classification(distillation=partial(distillation_loss, weight=0.1, multi_label=False))
    settings = {"batch_size": batch_size, "accumulate": accumulate, "epochs": 3, "average": None, "save_every": 0}
    make_trainer(folder, model, task, [seen], valid=False, train=TaughtSounds(), **settings).run()
    losses = [value for record in seen.steps for value in (record.loss, record.logs["soft"])]
    return losses, model[1].weight.detach().flatten().tolist()


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
