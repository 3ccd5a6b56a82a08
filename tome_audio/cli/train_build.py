"""From the options of `tome-audio train` to a model, a teacher and a task."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.audio.features import AstStatistics, normalise
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.rates import parse_rate, parse_rates
from tome_audio.cli.train_config import DistillConfig, FeatureConfig, LossConfig, MergingConfig, ModelConfig
from tome_audio.data.teacher_logits import TeacherLogits, check_same_labels, read_teacher_logits
from tome_audio.data.training_clips import Answer
from tome_audio.losses import distillation_loss, soften
from tome_audio.metrics import multi_label_scores, single_label_scores
from tome_audio.models import (
    AST,
    CheckpointError,
    SpectrogramCNN,
    TwoLayerCNN,
    load_checkpoint,
    load_official,
)
from tome_audio.patch import apply_patch
from tome_audio.tasks import Between, Classification, MergedTask, ModelTeacher, OneOf, TargetBetween, UnmergedSelf
from tome_audio.tasks.classification import Scores

_HEADS = ("mlp_head.", "head.", "net.classifier.", "net.fc.")


def build_model(config: ModelConfig, features: FeatureConfig, labels: tuple[str, ...]) -> nn.Module:
    """Build the model for these classes, with the weights it starts from.

    Raises:
        ValueError: Sizes or options that do not fit together.
        CheckpointError: The weights to start from cannot be read or do not fit.
    """
    sizes: dict[str, Any] = {"n_mels": features.n_mels, "n_frames": features.n_frames}
    sizes |= {"n_classes": len(labels), "labels": labels}
    if config.kind == "ast":
        if config.start is not None and Path(config.start).suffix == ".pth":
            return _from_official(config, sizes)
        model: nn.Module = AST(
            config.variant, width=config.width, depth=config.depth, n_heads=config.n_heads, fstride=config.fstride,
            tstride=config.tstride, patch=config.patch, drop_path=config.drop_path, pool=config.pool,
            imagenet_pretrained=config.imagenet, **sizes,
        )  # fmt: skip
    elif config.kind == "cnn":
        model = SpectrogramCNN(config.timm_name, drop_rate=config.drop_rate, pretrained=config.imagenet, **sizes)
    else:
        if config.imagenet:
            raise ValueError("a two-layer-cnn has no ImageNet weights: set model.imagenet to false")
        model = TwoLayerCNN(**sizes)
    if config.start is not None:
        start_from(model, config.start)
    return model


def _from_official(config: ModelConfig, sizes: dict[str, Any]) -> AST:
    assert config.start is not None  # the caller has seen it
    if config.imagenet:
        raise ValueError("model.start brings its own weights: set model.imagenet to false")
    changes: dict[str, Any] = {"fstride": config.fstride, "tstride": config.tstride, "drop_path": config.drop_path}
    changes["pool"] = config.pool
    return AST.from_audioset(load_official(config.start), **changes, **sizes)


def start_from(model: nn.Module, path: str) -> None:
    """Fill a model with a checkpoint of ours; a head of another number of classes stays as it is.

    Raises:
        CheckpointError: The checkpoint cannot be read, or is of a model of another size.
    """
    source, _ = load_checkpoint(path)
    given, own = source.state_dict(), model.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    lacking = [name for name in own if name not in fitting and not name.startswith(_HEADS)]
    if lacking:
        raise CheckpointError(
            f"{path} does not fit the model to be trained ({lacking[0]} and {len(lacking) - 1} others differ): "
            "start from a checkpoint of the same kind, size and input"
        )
    model.load_state_dict({**own, **fitting})


def read_answer(config: DistillConfig, labels: tuple[str, ...], ids: list[str], binary: bool) -> Answer | None:
    """Return what stored logits say to a clip, as probabilities; None where there is no distillation from logits.

    Raises:
        ValueError: Options that do not go together, or a teacher that knows none of the clips.
        DataError: The logits cannot be read, or are of other labels.
    """
    if config.weight == 1:
        return None
    named = [name for name in ("logits", "model") if getattr(config, name) is not None]
    if len(named) + config.itself != 1:
        raise ValueError(
            f"distill.weight is {config.weight:g}, which needs one teacher: give distill.logits, distill.model or "
            "distill.itself"
        )
    if config.logits is None:
        return None
    found = read_teacher_logits(config.logits, labels)
    if len(found.missing(ids)) == len(ids):
        raise ValueError(f"{config.logits} knows none of the {len(ids)} training clips, such as {ids[0]}")
    return partial(_answer, found, config.temperature, binary)


def _answer(found: TeacherLogits, temperature: float, binary: bool, clip_id: str) -> tuple[Tensor, bool]:
    logits, known = found.lookup([clip_id])
    return soften(logits, temperature, multi_label=binary)[0], bool(known)


def build_task(
    loss: LossConfig,
    distill: DistillConfig,
    merge: MergingConfig,
    model: nn.Module,
    statistics: AstStatistics,
    *,
    multi_label: bool,
    seed: int,
    scores: Scores | None = None,
) -> Any:
    """Return the task for the trainer; patches the model where it merges. `scores` are figures other than the usual.

    Raises:
        ValueError: Options that do not go together.
    """
    if multi_label and (not loss.binary or loss.best not in ("mean_ap", "loss")):
        raise ValueError("several labels per clip need loss.binary true and loss.best mean_ap or loss")
    if not multi_label and loss.best == "mean_ap":
        raise ValueError("loss.best mean_ap is for several labels per clip: choose accuracy, macro_f1 or loss")
    distillation: Any = None
    teacher: UnmergedSelf | ModelTeacher | None = None
    if distill.weight < 1:
        distillation = partial(
            distillation_loss, weight=distill.weight, temperature=distill.temperature, multi_label=loss.binary,
            label_smoothing=loss.label_smoothing, probabilities=distill.logits is not None,
        )  # fmt: skip
        if distill.itself:
            if not merge.is_on:
                raise ValueError("distill.itself teaches a merged model: say how it merges with merge.r")
            teacher = UnmergedSelf()
        elif distill.model is not None:
            teacher = _online_teacher(distill, model, statistics)
    task: Any = Classification(
        binary=loss.binary,
        label_smoothing=0.0 if distillation is not None or loss.binary else loss.label_smoothing,
        distillation=distillation,
        teacher=teacher,
        scores=scores or (multi_label_scores if multi_label else _single_label_figures),
        best=loss.best,
    )
    if not merge.is_on:
        return task
    apply_patch(model, metric=merge.metric, matching=merge.matching, rounds=merge.rounds)
    return MergedTask(task, train_rate(merge), evaluate=parse_rate(merge.evaluate), seed=seed)


def train_rate(merge: MergingConfig) -> Any:
    """Return r of training: one setting, or what each step draws from.

    Raises:
        ValueError: Two ways to say it at once, or a setting that is not understood.
    """
    given = [name for name in ("r", "between", "targets_between") if getattr(merge, name) is not None]
    if len(given) != 1:
        raise ValueError(f"merge.{' and merge.'.join(given)} exclude each other: give one")
    if merge.between is not None:
        return Between(*merge.between)
    if merge.targets_between is not None:
        return TargetBetween(*merge.targets_between)
    rates = parse_rates(merge.r or "")
    return rates[0] if len(rates) == 1 else OneOf(rates)


def _online_teacher(distill: DistillConfig, student: nn.Module, statistics: AstStatistics) -> ModelTeacher:
    path = distill.model
    assert path is not None  # the caller has seen it
    loaded: LoadedModel = load_model(path)
    check_same_labels(loaded.need_labels(), tuple(student.labels), path, "the student")  # type: ignore[arg-type]
    _, metadata = load_checkpoint(path)
    theirs = metadata.features
    if theirs is None or loaded.input_shape != (student.n_frames, student.n_mels):
        raise ValueError(f"{path} takes another input than the student: use its stored logits, distill.logits")
    mean, std = theirs["mean"], theirs["std"]

    def prepare(x: Tensor) -> Tensor:
        return normalise(x * (2 * statistics.std) + statistics.mean, mean, std)

    return ModelTeacher(loaded.model, prepare, distill.precision)


def _single_label_figures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    found = single_label_scores(logits, labels)
    return {"accuracy": found.accuracy, "macro_f1": found.macro_f1}


def meta_model(config: ModelConfig, features: FeatureConfig, labels: tuple[str, ...]) -> nn.Module:
    """Build the model without memory for weights, to see that a recipe's sizes fit together.

    Raises:
        ValueError: They do not.
    """
    with torch.device("meta"):
        return build_model(config, features, labels)
