"""A small training loop over tensors held in memory: seeded, resumable bit for bit, loud when it diverges."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tome_audio.training.errors import TrainingError
from tome_audio.training.optim import make_optimizer, warmup_cosine
from tome_audio.training.state import load_state, save_state

Data = tuple[Tensor, Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: mean training loss, accuracy on the validation data in [0, 1], last lr, wall seconds."""

    epoch: int
    loss: float
    accuracy: float | None
    lr: float
    seconds: float = field(compare=False)


@dataclass
class History:
    """What a run went through, epoch by epoch, including epochs before a resume."""

    records: list[EpochRecord] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(record.seconds for record in self.records)


def fit(
    model: nn.Module,
    train: Data,
    valid: Data | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    lr: float = 5e-4,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    clip_norm: float = 1.0,
    label_smoothing: float = 0.0,
    seed: int = 0,
    augment: Augment | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    state_path: str | Path | None = None,
) -> History:
    """Train `model` in place by cross-entropy with AdamW, warm-up and cosine decay, clipped gradients.

    Args:
        model: Maps features (B, ...) to logits (B, classes). Trained on the device it is on.
        train: Features (N, ...) and class indices (N,).
        valid: The same, scored after every epoch; None scores nothing.
        epochs: Passes over the training data; the learning rate reaches 0 at the end of the last.
        batch_size: Clips per step; the last batch of an epoch may be smaller.
        lr: Learning rate at the top of the curve.
        weight_decay: Of weight matrices; see `make_optimizer`.
        warmup: Part of the run over which the learning rate rises, in [0, 1).
        clip_norm: Largest norm of the gradient of all parameters together.
        label_smoothing: Part of the target spread evenly over the classes.
        seed: Fixes order, augmentation and dropout: epoch e draws from (seed, e) alone.
        augment: Called on each batch of features with the epoch's generator (on the CPU).
        on_epoch: Called after every epoch, once its state has been saved.
        state_path: Where to save the state after each epoch. A file found there is continued, and gives
            the weights and history an uninterrupted run would have given, bit for bit.

    Raises:
        ValueError: Data of wrong shapes, a setting out of range, or a state saved under other settings.
        TrainingError: The loss is no longer finite.
    """
    settings: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "warmup": warmup,
        "clip_norm": clip_norm, "label_smoothing": label_smoothing, "seed": seed, "clips": len(train[0]),
    }  # fmt: skip
    _check(train, valid, settings)
    path = None if state_path is None else Path(state_path)
    optimizer = make_optimizer(model, lr, weight_decay)
    history = History()
    if path is not None and path.exists():
        history.records += [EpochRecord(**r) for r in load_state(path, model, optimizer, settings)]
    for epoch in range(len(history.records), epochs):
        start = time.perf_counter()
        loss = _train_epoch(model, optimizer, train, epoch, settings, augment)
        score = None if valid is None else accuracy(model, *valid, batch_size=batch_size)
        last_lr = float(optimizer.param_groups[0]["lr"])
        record = EpochRecord(epoch, loss, score, last_lr, time.perf_counter() - start)
        history.records.append(record)
        if path is not None:
            save_state(path, model, optimizer, settings, [asdict(record) for record in history.records])
        if on_epoch is not None:
            on_epoch(record)
    return history


@torch.inference_mode()
def accuracy(model: nn.Module, features: Tensor, labels: Tensor, batch_size: int = 64) -> float:
    """Part of the clips (N, ...) whose largest logit is at their label (N,), in [0, 1].

    The model is evaluated in eval mode and left in the mode it was in.

    Raises:
        ValueError: No clips, or not as many labels as clips.
    """
    if len(features) == 0 or len(features) != len(labels):
        raise ValueError(f"accuracy needs one label per clip, got {len(labels)} for {len(features)} clips")
    device, was_training = _device(model), model.training
    model.eval()
    try:
        batches = zip(features.split(batch_size), labels.split(batch_size), strict=True)
        right = sum(int((model(x.to(device)).argmax(-1).cpu() == y.cpu()).sum()) for x, y in batches)
    finally:
        model.train(was_training)
    return right / len(features)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Data,
    epoch: int,
    settings: dict[str, Any],
    augment: Augment | None,
) -> float:
    # Mean loss per clip. Seeding per epoch means that a resumed run needs no saved random state.
    features, labels = train
    device, n_clips = _device(model), len(features)
    epoch_seed = settings["seed"] * 1_000_003 + epoch
    generator = torch.Generator().manual_seed(epoch_seed)
    batches = torch.randperm(n_clips, generator=generator).split(settings["batch_size"])
    total, total_steps = 0.0, len(batches) * settings["epochs"]
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_seed)  # dropout and drop-path know only the global state
        for i, chosen in enumerate(batches):
            factor = warmup_cosine(epoch * len(batches) + i, total_steps, settings["warmup"])
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * factor
            x, y = features[chosen], labels[chosen].to(device)
            x = (x if augment is None else augment(x, generator)).to(device)
            loss = F.cross_entropy(model(x), y, label_smoothing=settings["label_smoothing"])
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} at epoch {epoch}, step {i}: lower lr (now {settings['lr']}) "
                    "or look for values that are not finite in the features"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
            optimizer.step()
            total += loss.item() * len(chosen)
    return total / n_clips


def _check(train: Data, valid: Data | None, settings: dict[str, Any]) -> None:
    for name, data in (("train", train), ("valid", valid)):
        if data is None:
            continue
        features, labels = data
        if len(features) == 0 or labels.shape != (len(features),) or labels.dtype != torch.int64:
            raise ValueError(
                f"{name} must be features (N, ...) and int64 class indices (N,) with N > 0, "
                f"got {tuple(features.shape)} and {tuple(labels.shape)} of {labels.dtype}"
            )
    for name in ("epochs", "batch_size", "lr", "clip_norm"):
        if settings[name] <= 0:
            raise ValueError(f"{name} must be positive, got {settings[name]}")
    if not 0 <= settings["warmup"] < 1:
        raise ValueError(f"warmup is a part of the run, in [0, 1), got {settings['warmup']}")


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
