"""Anything that embeds clips: few-shot networks, and what was trained to classify, with its last layer taken off."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.audio.front_end import FrontEnd
from tome_audio.cli.loading import Prepare, load_model
from tome_audio.losses import Distance
from tome_audio.models import (
    AST,
    KWT,
    CheckpointError,
    FewShotNetwork,
    SpectrogramCNN,
    from_huggingface,
    load_checkpoint,
)

FRONT_END = "front_end"


@dataclass(frozen=True)
class WholeClips:
    """A classifier's own way from waveforms to features: every clip is one segment."""

    prepare: Prepare

    def segments(self, waveform: Tensor) -> Tensor:
        """Return the clip itself, (1, T)."""
        return waveform[None]

    def features(self, waveforms: Tensor | Sequence[Tensor]) -> Tensor:
        """Return features (B, T, F)."""
        return self.prepare(list(waveforms))


@dataclass(frozen=True)
class Embedder:
    """A model that embeds clips, and what surrounds it.

    Attributes:
        name: As it was given.
        model: Maps features (B, T, F) to embeddings (B, D); in eval mode.
        front_end: From waveforms to features.
        head: What few-shot training left on top of the embeddings; None where there was none.
        distance: What it was trained with.
        temperature: What it was trained with.
        views: Options of the views it was trained with.
        spectrum: Of the clips it was trained on, where their waveforms were augmented.
        labels: The classes it was trained on; empty where nobody knows.
    """

    name: str
    model: nn.Module
    front_end: FrontEnd | WholeClips
    head: Any = None
    distance: Distance = "squared"
    temperature: float = 1.0
    views: dict[str, Any] | None = None
    spectrum: dict[str, float] | None = None
    labels: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what embeddings depend on: a checksum of the weights, and the front end."""
        digest = hashlib.sha256()
        for value in (*self.model.parameters(), *self.model.buffers()):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        own: Callable[[], Any] = getattr(self.front_end, "facts", lambda: self.name)
        return {"model": type(self.model).__name__, "weights": digest.hexdigest(), "front_end": own()}


def load_embedder(name: str) -> Embedder:
    """Load what embeds clips.

    Args:
        name: A checkpoint of `tome-audio fewshot train` or `tome-audio train`, kwt1.npz, an official AST (.pth) or a
            Hugging Face AST.

    Raises:
        CheckpointError: It cannot be read.
        ValueError: It cannot embed: no trained weights, or a model without a last layer to take off.
    """
    path = Path(name)
    if path.suffix == ".safetensors":
        model, metadata = load_checkpoint(path)
        if isinstance(model, FewShotNetwork):
            if FRONT_END not in metadata.extra:
                raise CheckpointError(f"{path} does not say what its input is: save it with extra={{'front_end': ...}}")
            extra = metadata.extra
            return Embedder(
                name, model.encoder, FrontEnd(**extra[FRONT_END]), model.head, extra.get("distance", "squared"),
                extra.get("temperature", 1.0), extra.get("views"), extra.get("spectrum"), model.labels or (),
            )  # fmt: skip
    loaded = load_model(name)
    if loaded.prepare is None or not loaded.trained:
        raise ValueError(f"{name} has no trained weights, or does not take audio: give a checkpoint")
    return Embedder(name, headless(loaded.model), WholeClips(loaded.prepare), labels=loaded.labels or ())


def headless(model: nn.Module) -> nn.Module:
    """Return a copy of a classifier that gives what its last layer reads.

    Raises:
        ValueError: A model whose last layer is not known.
    """
    if isinstance(model, AST | SpectrogramCNN):
        kind: Any = AST if isinstance(model, AST) else SpectrogramCNN
        made = kind(**{**model.init_args, "n_classes": 0})
        given = model.state_dict()
        made.load_state_dict({key: given[key] for key in made.state_dict()})
        return made.eval()
    if isinstance(model, KWT):
        made = copy.deepcopy(model)
        made.head = nn.Identity()  # type: ignore[assignment]
        return made.eval()
    if type(model).__name__ == "ASTForAudioClassification":
        return headless(from_huggingface(model))  # type: ignore[arg-type]
    raise ValueError(f"a {type(model).__name__} cannot embed clips here; AST, KWT and networks of timm can")
