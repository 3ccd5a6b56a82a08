"""Models by name: everything a command needs to feed one and to read its answer."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.audio import AST_STATISTICS, ast_features
from tome_audio.models import (
    AST,
    KWT,
    CheckpointError,
    FewShotNetwork,
    SpectrogramCNN,
    TwoLayerCNN,
    load_checkpoint,
    load_kwt,
    load_official,
)

Prepare = Callable[[Sequence[Tensor]], Tensor]

NAMES = """\
  kwt1.npz, PATH.npz     Keyword Transformer weights (12 spoken commands)
  PATH.safetensors       a checkpoint of ours, as `tome-audio demo` writes it
  PATH.pth               an official AST checkpoint
  ORG/NAME, a folder     Hugging Face AST, from the hub or from disk (extra `hf`)
  ast-base384, ...       AST of that size with random weights (inspect only)
  a timm name            e.g. vit_base_patch16_224, random weights (inspect only)"""

_KWT_IN_DATA = Path("weights", "kwt1_speechcommands_v2_12", "kwt1.npz")


@dataclass(frozen=True)
class LoadedModel:
    """A model with what surrounds it.

    `prepare` turns waveforms (T,) at 16 kHz into the model's input; it is None where the model does not take audio.
    `input_shape` is one clip of that input. `labels` is None where outputs have no names. `trained` tells whether
    the weights are more than random.
    """

    name: str
    model: nn.Module
    input_shape: tuple[int, ...]
    prepare: Prepare | None = None
    labels: tuple[str, ...] | None = None
    multi_label: bool = False
    trained: bool = True

    def need_labels(self) -> tuple[str, ...]:
        """Return the labels.

        Raises:
            ValueError: if the model cannot name what it hears.
        """
        if self.prepare is None or not self.trained or self.labels is None:
            raise ValueError(
                f"{self.name} cannot classify audio (no trained weights, or no labels); use a checkpoint:\n{NAMES}"
            )
        return self.labels


def load_model(name: str, labels: str | None = None) -> LoadedModel:
    """Load a model by name or path, in eval mode; `labels` is a label CSV for weights that hold no names.

    Raises:
        ValueError: if the name means nothing, or a checkpoint or the CSV cannot be read (`CheckpointError`).
        ImportError: if an optional package is missing.
    """
    loaded = _load(name)
    return loaded if labels is None else replace(loaded, labels=_read_labels(Path(labels), loaded))


def _load(name: str) -> LoadedModel:
    path = Path(name)
    if name == "kwt1":
        return _kwt(name, Path(os.environ.get("TOME_AUDIO_DATA", ".")) / _KWT_IN_DATA)
    if path.suffix == ".npz":
        return _kwt(name, path)
    if path.suffix == ".safetensors":
        return _own_checkpoint(name, path)
    if path.suffix in (".pth", ".pt"):
        return _official(name, path)
    if name.startswith("ast-"):
        return _on_mels(name, AST(name.removeprefix("ast-")), 0.0, 0.5, trained=False)
    if path.is_dir() or "/" in name:
        return _huggingface(name)
    return _timm(name)


def _kwt(name: str, path: Path) -> LoadedModel:
    if not path.is_file() and name == "kwt1":
        raise CheckpointError(f"no KWT-1 weights at {path}: give the path to kwt1.npz, or set TOME_AUDIO_DATA")
    return _kwt_model(name, load_kwt(path))


def _kwt_model(name: str, model: KWT) -> LoadedModel:
    n_samples = model.frontend.n_samples

    def prepare(waveforms: Sequence[Tensor]) -> Tensor:
        batch = torch.zeros(len(waveforms), n_samples)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform[:n_samples]
        with torch.no_grad():
            return model.frontend(batch)

    return LoadedModel(name, model.eval(), (model.n_frames, model.n_coefficients), prepare, model.labels)


def _on_mels(
    name: str,
    model: AST | SpectrogramCNN | TwoLayerCNN,
    mean: float,
    std: float,
    *,
    labels: Sequence[str] | None = None,
    multi_label: bool | None = None,
    trained: bool = True,
) -> LoadedModel:
    def prepare(waveforms: Sequence[Tensor]) -> Tensor:
        return ast_features(waveforms, n_frames=model.n_frames, mean=mean, std=std, n_mels=model.n_mels).values

    names = tuple(labels or model.labels or ()) or None
    if multi_label is None:
        multi_label = model.n_classes == 527
    return LoadedModel(name, model.eval(), (model.n_frames, model.n_mels), prepare, names, multi_label, trained)


def _official(name: str, path: Path) -> LoadedModel:
    model = load_official(path)
    trained_on = {527: "audioset", 50: "esc50", 35: "speechcommands"}.get(model.n_classes)
    if trained_on is None:
        raise CheckpointError(
            f"{path} has {model.n_classes} classes, so the mean and std of its features are unknown: load it with "
            "load_official and save it with save_checkpoint(features={mean, std, n_frames})"
        )
    return _on_mels(name, model, AST_STATISTICS[trained_on].mean, AST_STATISTICS[trained_on].std)


def _read_labels(path: Path, loaded: LoadedModel) -> tuple[str, ...]:
    """Read names in AST's format: a CSV with the columns index, mid, display_name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = {int(row["index"]): row["display_name"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a label CSV with columns index, mid, display_name ({type(error).__name__}: {error})"
        ) from error
    if sorted(rows) != list(range(len(rows))) or not rows:
        raise CheckpointError(f"{path} should number its {len(rows)} labels from 0 on, each once")
    if loaded.labels is not None and len(loaded.labels) != len(rows):
        raise CheckpointError(f"{path} names {len(rows)} classes, but {loaded.name} has {len(loaded.labels)}")
    return tuple(rows[index] for index in range(len(rows)))


def _own_checkpoint(name: str, path: Path) -> LoadedModel:
    model, metadata = load_checkpoint(path)
    if isinstance(model, KWT):
        return _kwt_model(name, model)
    if isinstance(model, FewShotNetwork):
        raise CheckpointError(
            f"{path} is a few-shot network, which names no classes: score it with `tome-audio fewshot evaluate`, or "
            "start training from it with --encoder.start"
        )
    if metadata.features is None:
        raise CheckpointError(f"{path} holds no feature statistics: save it with features={{mean, std, n_frames}}")
    assert isinstance(model, AST | SpectrogramCNN | TwoLayerCNN)  # the rest of MODEL_CLASSES
    return _on_mels(
        name,
        model,
        metadata.features["mean"],
        metadata.features["std"],
        labels=metadata.labels,
        multi_label=metadata.extra.get("multi_label"),
    )


def _huggingface(name: str) -> LoadedModel:
    try:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
    except ImportError as error:
        raise ImportError(f"{name} needs Hugging Face transformers: pip install 'tome_audio[hf]'") from error
    try:
        model: Any = AutoModelForAudioClassification.from_pretrained(name)
        extractor: Any = AutoFeatureExtractor.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} could not be loaded as a Hugging Face audio classifier: {first}") from error
    if type(extractor).__name__ != "ASTFeatureExtractor":
        raise CheckpointError(
            f"{name} uses {type(extractor).__name__}; only AST models (ASTFeatureExtractor) are known"
        )

    def prepare(waveforms: Sequence[Tensor]) -> Tensor:
        mean, std = (extractor.mean, extractor.std) if extractor.do_normalize else (0.0, 0.5)
        return ast_features(
            waveforms, n_frames=extractor.max_length, mean=mean, std=std, n_mels=extractor.num_mel_bins
        ).values

    labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    shape = (extractor.max_length, extractor.num_mel_bins)
    multi_label = model.config.problem_type == "multi_label_classification" or len(labels) == 527
    return LoadedModel(name, model.eval(), shape, prepare, labels, multi_label)


def _timm(name: str) -> LoadedModel:
    import timm

    if name not in timm.list_models():
        raise ValueError(f"{name!r} is not a model: no such file, and no timm model of that name. Known are\n{NAMES}")
    model = timm.create_model(name, pretrained=False).eval()
    shape = tuple(int(side) for side in timm.data.resolve_model_data_config(model)["input_size"])
    return LoadedModel(name, model, shape, trained=False)
