"""Anything that embeds clips: few-shot networks, and what was trained to classify, with its last layer taken off."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.audio.front_end import FrontEnd
from tome_audio.audio.spectrum_facts import SpectrumFacts
from tome_audio.cli.fewshot.config import ViewsConfig
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
_NO_VIEWS = ViewsConfig()


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
    views: ViewsConfig = _NO_VIEWS
    spectrum: SpectrumFacts | None = None
    labels: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what embeddings depend on: checksums of all weights, arguments, and the front end."""
        fusion = None if self.head is None else self.head.fusion
        parts = [self.model] if fusion is None else [self.model, fusion]
        front_end: Any = self.front_end.facts() if isinstance(self.front_end, FrontEnd) else self.name
        if isinstance(front_end, str) and Path(front_end).is_file():  # a classifier's own: what its file says
            front_end = [front_end, Path(front_end).stat().st_size, Path(front_end).stat().st_mtime_ns]
        args = [getattr(part, "init_args", None) for part in parts]
        return {"models": [weights_checksum(part) for part in parts], "args": args, "front_end": front_end}


def weights_checksum(model: nn.Module) -> str:
    """Return a digest of a model's class and all its weights."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
            try:
                front_end, views = FrontEnd(**extra[FRONT_END]), ViewsConfig(**(extra.get("views") or {}))
                spectrum = SpectrumFacts(**extra["spectrum"]) if extra.get("spectrum") else None
            except (TypeError, ValueError) as error:
                raise CheckpointError(
                    f"{path} describes its input in a way that is unknown here ({error}): use it with the version of "
                    "tome_audio that saved it"
                ) from error
            return Embedder(
                name, model.encoder, front_end, model.head, extra.get("distance", "squared"),
                extra.get("temperature", 1.0), views, spectrum, model.labels or (),
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
