"""From the options of `tome-audio fewshot train` to a network and a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.cli.fewshot.config import AudioConfig, ContrastiveConfig, EncoderConfig, HeadConfig
from tome_audio.cli.fewshot.embedders import FRONT_END
from tome_audio.cli.rates import parse_rate
from tome_audio.cli.train_build import train_rate
from tome_audio.cli.train_config import MergingConfig
from tome_audio.losses import angular_prototypical_loss, contrastive_prototypical_loss
from tome_audio.models import (
    AST,
    CheckpointError,
    FewShotNetwork,
    from_huggingface,
    load_checkpoint,
    load_official,
)
from tome_audio.patch import apply_patch
from tome_audio.tasks import FewShot, MergedTask


def build_network(
    encoder: EncoderConfig, head: HeadConfig, audio: AudioConfig, n_views: int, classes: tuple[str, ...]
) -> FewShotNetwork:
    """Build encoder and head, with the weights the encoder starts from; a head without projection has none.

    Raises:
        ValueError: Sizes or options that do not fit together.
        CheckpointError: The weights to start from cannot be read, or do not fit.
    """
    sizes: dict[str, Any] = {"n_mels": audio.n_mels, "n_frames": audio.n_frames}
    if encoder.kind in ("cnn", "crnn"):
        args = {**sizes, "dropout": encoder.dropout, "pool": list(encoder.pool)}
    elif encoder.kind == "timm":
        args = {**sizes, "timm_name": encoder.timm_name}
    else:
        names = ("variant", "width", "depth", "n_heads", "fstride", "tstride", "drop_path")
        args = {**sizes, **{name: getattr(encoder, name) for name in names}, "pool": encoder.tokens}
        args["patch"] = list(encoder.patch)
        if encoder.start is not None and not encoder.start.endswith(".safetensors"):
            return _network("ast", *encoder_from_elsewhere(encoder.start, args), head, n_views, classes)
    network = _network(encoder.kind, args, None, head, n_views, classes)
    if encoder.start is not None:
        _start_from(network, encoder.start)
    return network


def _network(
    kind: str,
    args: dict[str, Any],
    weights: dict[str, Tensor] | None,
    head: HeadConfig,
    n_views: int,
    classes: tuple[str, ...],
) -> FewShotNetwork:
    options: dict[str, Any] = {
        "n_views": n_views if head.fusion else 1,
        "fusion": head.fusion,
        "projection": None if head.projection is None else list(head.projection),
        "project_prototypes": head.project_prototypes,
        "relation": head.relation,
    }
    network = FewShotNetwork(kind, args, options, labels=classes)
    if weights is not None:
        network.encoder.load_state_dict(weights)
    return network


def encoder_from_elsewhere(start: str, args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return arguments and weights of an AST without classes that starts from an official or a Hugging Face one.

    It has their size and patches; of `args` it has the size of its input, drop_path and pool.

    Raises:
        CheckpointError: It cannot be read, or is for an input of another size and not AudioSet's.
    """
    source = load_official(start) if Path(start).suffix == ".pth" else _huggingface(start)
    wanted = {key: value for key, value in args.items() if key in ("n_mels", "n_frames", "drop_path", "pool")}
    if (source.n_frames, source.n_mels) == (wanted["n_frames"], wanted["n_mels"]):
        given = {**source.init_args, **wanted, "n_classes": 0}
        model = AST(**given)
        weights = {k: v for k, v in source.state_dict().items() if not k.startswith("mlp_head.1.")}
        model.load_state_dict(weights)
    else:
        try:
            model = AST.from_audioset(source, **wanted, n_classes=0)
        except ValueError as error:
            raise CheckpointError(
                f"{start} takes {source.n_frames} frames of {source.n_mels} mel bins and cannot be fitted to "
                f"{args['n_frames']} of {args['n_mels']}: {error}"
            ) from error
    return model.init_args, model.state_dict()


def _huggingface(name: str) -> AST:
    try:
        from transformers import ASTForAudioClassification, AutoConfig
    except ImportError as error:
        raise ImportError(f"{name} needs Hugging Face transformers: pip install 'tome_audio[hf]'") from error
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind != "audio-spectrogram-transformer":
            raise CheckpointError(f"{name} is a Hugging Face model of type {kind}: an encoder can start from an AST")
        return from_huggingface(ASTForAudioClassification.from_pretrained(name))
    except (OSError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} could not be loaded as a Hugging Face AST: {first}") from error


def _start_from(network: FewShotNetwork, path: str) -> None:
    """Fill the encoder, and the head where it fits, with a checkpoint of ours.

    Raises:
        CheckpointError: The checkpoint cannot be read, or its encoder is of another size.
    """
    source, _ = load_checkpoint(path)
    encoder: nn.Module = source.encoder if isinstance(source, FewShotNetwork) else source  # type: ignore[assignment]
    given, own = encoder.state_dict(), network.encoder.state_dict()
    lacking = [name for name in own if name not in given or given[name].shape != own[name].shape]
    if lacking:
        raise CheckpointError(
            f"{path} does not fit the encoder to be trained ({lacking[0]} and {len(lacking) - 1} others differ): start "
            "from a checkpoint of the same kind, size and input"
        )
    network.encoder.load_state_dict({name: given[name] for name in own})
    if isinstance(source, FewShotNetwork) and source.init_args["head_args"] == network.init_args["head_args"]:
        network.head.load_state_dict(source.head.state_dict())


def with_statistics_of(start: str | None, audio: AudioConfig) -> AudioConfig:
    """Return options with the mean and std that the encoder to start from was trained with, where none are given.

    Raises:
        CheckpointError: The checkpoint cannot be read, or was trained on features of another front end.
    """
    if start is None:
        return audio
    found: Mapping[str, Any] = {}
    if start.endswith(".safetensors"):
        _, metadata = load_checkpoint(start)
        found = metadata.extra.get(FRONT_END) or metadata.features or {}
    wanted = found.get("kind", "fbank")
    if audio.front_end != wanted:
        raise CheckpointError(f"{start} was trained on {wanted} features: set audio.front_end to {wanted}")
    if audio.mean is not None or not found:
        return audio
    return replace(audio, mean=found["mean"], std=found["std"])


def build_task(
    head: HeadConfig, contrastive: ContrastiveConfig, merge: MergingConfig, network: nn.Module, seed: int
) -> FewShot | MergedTask:
    """Return the task for the trainer; patches the network where it merges.

    Raises:
        ValueError: Options that do not go together, or a network that merges nothing.
    """
    second: Any = None
    if contrastive.kind == "cpl":
        second = partial(
            contrastive_prototypical_loss, temperature=contrastive.temperature, n_negatives=contrastive.n_negatives,
            legacy=contrastive.legacy,
        )  # fmt: skip
    elif contrastive.kind == "apl":
        second = partial(
            angular, angle=contrastive.angle, prototypes_as_anchors=contrastive.prototypes_as_anchors,
            legacy=contrastive.legacy,
        )  # fmt: skip
    task = FewShot(
        distance=head.distance, temperature=head.temperature, contrastive=second, weight=contrastive.weight,
        relation=head.relation,
    )  # fmt: skip
    if not merge.is_on:
        return task
    apply_patch(network, metric=merge.metric, matching=merge.matching, rounds=merge.rounds)
    return MergedTask(task, train_rate(merge), evaluate=parse_rate(merge.evaluate), seed=seed)


def angular(queries: Tensor, prototypes: Tensor, *, generator: torch.Generator, **options: Any) -> Tensor:
    """Return `angular_prototypical_loss`, which draws nothing."""
    return angular_prototypical_loss(queries, prototypes, **options)
