"""Checkpoints of our own: one safetensors file that says how to build the model it fills."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tome_audio.models.ast import AST
from tome_audio.models.cnn import SpectrogramCNN, TwoLayerCNN
from tome_audio.models.few_shot import FewShotNetwork
from tome_audio.models.kwt import KWT
from tome_audio.models.song_encoder import SongEncoder
from tome_audio.models.strict import CheckpointError, load_strict

MODEL_CLASSES: dict[str, type[nn.Module]] = {
    "AST": AST,
    "KWT": KWT,
    "SpectrogramCNN": SpectrogramCNN,
    "TwoLayerCNN": TwoLayerCNN,
    "FewShotNetwork": FewShotNetwork,
    "SongEncoder": SongEncoder,
}
"""Classes that checkpoints can hold. Each keeps its constructor arguments, JSON-able, in `init_args`."""

_FORMAT, _VERSION = "tome_audio", 1
_FACTS = {"version", "model", "init_args", "labels", "features", "extra"}
_FEATURE_KEYS = {"mean", "std", "n_frames"}


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says beside its weights.

    Args:
        model: Name of the model's class.
        init_args: Constructor arguments of the model.
        labels: Class names in output order, if saved.
        features: `mean` and `std` of the training features and their `n_frames`, if saved.
        extra: Anything else that was saved, such as a score or a recipe's name.
    """

    model: str
    init_args: dict[str, Any]
    labels: tuple[str, ...] | None = None
    features: dict[str, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def _class_name(model: nn.Module) -> str:
    for cls in type(model).__mro__:  # a patched model may be of a subclass
        if MODEL_CLASSES.get(cls.__name__) is cls:
            return cls.__name__
    raise ValueError(
        f"a {type(model).__name__} can not be saved as a checkpoint; known are {', '.join(MODEL_CLASSES)}. "
        "Give the class an init_args attribute and add it to MODEL_CLASSES"
    )


def write_atomically(tensors: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file so that `path` holds the old file or the whole new one, never a part."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        save_file(dict(tensors), partial, metadata=metadata)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    labels: Sequence[str] | None = None,
    features: Mapping[str, float] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save a model's weights, constructor arguments, labels and feature statistics in one safetensors file.

    The file appears whole or not at all; the folder must exist.

    Args:
        path: File to write.
        model: Model of a class in `MODEL_CLASSES`; may be on any device, and may be patched.
        labels: Class names in output order; default `model.labels`.
        features: `mean` and `std` of the training features and their `n_frames`.
        extra: Further JSON-able facts to keep.

    Returns:
        The path written.

    Raises:
        ValueError: The model, labels or statistics can not be saved as they are.
    """
    path = Path(path)
    name = _class_name(model)
    labels = getattr(model, "labels", None) if labels is None else labels
    init_args: Any = model.init_args
    n_classes = init_args.get("n_classes")  # a few-shot network has none, and labels are what it was trained on
    if labels is not None and n_classes is not None and len(labels) != n_classes:
        raise ValueError(f"{len(labels)} labels given for a model of {n_classes} classes; give one per class")
    if features is not None and set(features) != _FEATURE_KEYS:
        raise ValueError(f"features must hold mean, std and n_frames, got {sorted(features)}")
    facts = {
        "version": _VERSION,
        "model": name,
        "init_args": init_args,
        "labels": None if labels is None else list(labels),
        "features": None if features is None else dict(features),
        "extra": dict(extra or {}),
    }
    try:
        text = json.dumps(facts)
    except TypeError as error:
        raise ValueError(f"a checkpoint keeps JSON only beside its weights: {error}") from error
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_atomically(tensors, path, {_FORMAT: text})
    return path


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_FORMAT)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({error}); copy or save it again") from error
    if text is None:
        raise CheckpointError(
            f"{path} was not written by save_checkpoint: it does not say which model it holds. "
            "Use load_official or from_huggingface for weights from elsewhere"
        )
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({error}); copy or save it again") from error
    if not isinstance(facts, dict) or not facts.keys() >= _FACTS:
        raise CheckpointError(f"checkpoint {path} is damaged (its metadata lacks facts); copy or save it again")
    return tensors, facts


def _build(facts: Mapping[str, Any], path: Path, device: str = "meta") -> nn.Module:
    if facts["version"] > _VERSION or facts["model"] not in MODEL_CLASSES:
        raise CheckpointError(
            f"checkpoint {path} holds a {facts['model']} in format {facts['version']}, unknown here; "
            "update tome_audio, or register the class in MODEL_CLASSES"
        )
    try:
        with torch.device(device):  # on "meta" no initialisation: neither time nor random numbers are spent
            return MODEL_CLASSES[facts["model"]](**facts["init_args"], labels=facts["labels"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the {facts['model']} in checkpoint {path} can not be built ({error}); "
            "load it with the version of tome_audio that saved it"
        ) from error


def load_checkpoint(path: str | Path) -> tuple[nn.Module, CheckpointMetadata]:
    """Rebuild a model saved by `save_checkpoint`, in eval mode on the CPU, with what was saved beside it.

    Raises:
        CheckpointError: The file is missing, damaged, of a newer format, or does not fit its model.
    """
    path = Path(path)
    tensors, facts = _read(path)
    model = _build(facts, path)
    labels = None if facts["labels"] is None else tuple(facts["labels"])
    advice = "Save it again with this version of tome_audio."
    load_strict(model, tensors, str(path), advice, assign=True)
    if any(buffer.is_meta for buffer in model.buffers()):  # what a state dict leaves out has to be computed
        with torch.random.fork_rng(devices=[]):
            model = _build(facts, path, "cpu")
        load_strict(model, tensors, str(path), advice, assign=True)
    metadata = CheckpointMetadata(facts["model"], facts["init_args"], labels, facts["features"], facts["extra"])
    return model.eval(), metadata
