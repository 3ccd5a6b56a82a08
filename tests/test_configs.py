"""Every config of a recipe is understood by the command that reads it, and its sizes fit together."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tome_audio.audio.features import AstStatistics
from tome_audio.cli.main import _commands, _parser, instantiated
from tome_audio.cli.train_build import build_task, meta_model

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "egs").rglob("conf/*.yaml"))
TRAIN = [path for path in CONFIGS if path.parent.parent.name != "smoke"]
RECIPES = sorted({path.parent.parent for path in TRAIN})


def name(path):
    return f"{path.parent.parent.name}/{path.name}"


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.fixture(scope="module")
def parser():
    return _parser(_commands())


@pytest.mark.parametrize("path", TRAIN, ids=name)
def test_a_training_config_is_read_and_builds_its_model(path, parser):
    parsed = parser.parse_args(["train", "--config", str(path), "--data", "anywhere"])
    for key, value in leaves(yaml.safe_load(path.read_text())):
        found = parsed["train"][key]
        assert (list(found) if isinstance(found, tuple) else found) == value, key
    options = instantiated(parser, parsed)["train"]
    model, n_classes = replace(options.model, imagenet=False), 5
    if model.kind == "cnn":  # timm draws weights of these on the CPU only
        assert not model.variant and model.timm_name
    labels = tuple(f"class {i}" for i in range(n_classes))
    built = meta_model(model, options.features, labels)
    assert next(built.parameters()).device.type == "meta" and built.labels == labels
    assert sum(weights.numel() for weights in built.parameters()) > 1000
    statistics = AstStatistics(options.features.n_frames, 0.0, 1.0)
    distill = replace(options.distill, logits="folder") if options.distill.weight < 1 else options.distill
    task = build_task(
        options.loss, distill, options.merge, built, statistics, multi_label=options.clips.multi_label, seed=0
    )
    assert callable(task.loss)


@pytest.mark.parametrize("path", TRAIN, ids=name)
def test_masks_fit_into_the_input(path, parser):
    options = instantiated(parser, parser.parse_args(["train", "--config", str(path), "--data", "anywhere"]))
    train = options["train"]
    assert train.augment.timem <= train.features.n_frames and train.augment.freqm <= train.features.n_mels
    assert train.trainer.learning_rate.factor(0, 0, 10**6) >= 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_each_student_comes_with_and_without_a_teacher(recipe):
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in (recipe / "conf").glob("*.yaml")}
    pairs = [stem for stem in configs if f"{stem}_kd" in configs]
    assert pairs and {"smoke", "smoke_teacher", "teacher"} <= configs.keys()
    for stem in pairs:
        with_teacher, without = configs[f"{stem}_kd"], configs[stem]
        assert without["distill"]["weight"] == 1.0 and with_teacher["distill"]["weight"] == 0.1
        assert {k: v for k, v in with_teacher.items() if k != "distill"} == {
            k: v for k, v in without.items() if k != "distill"
        }


def test_published_numbers_are_in_the_configs(parser):
    """Gong et al., 2021, and its recipes."""

    def read(config):
        words = ["train", "--config", str(ROOT / "egs" / config), "--data", "anywhere"]
        return instantiated(parser, parser.parse_args(words))["train"]

    speech = read("speechcommands/conf/ast_kd.yaml")
    assert (speech.features.n_frames, speech.trainer.lr, speech.trainer.batch_size, speech.trainer.epochs) == (
        128, 2.5e-4, 128, 30,
    )  # fmt: skip
    assert (speech.augment.mixup, speech.augment.freqm, speech.augment.timem, speech.augment.noise) == (
        0.6, 48, 48, True,
    )  # fmt: skip
    assert speech.loss.binary and speech.distill.weight == 0.1 and speech.trainer.weight_decay == 5e-7
    balanced, full = read("audioset/conf/ast.yaml"), read("audioset/conf/ast_full.yaml")
    for train, wanted in ((balanced, (5e-5, 25, (6, 25), 10, 5)), (full, (1e-5, 5, (1, 5), 2, 1))):
        curve = train.trainer.learning_rate
        assert (train.trainer.lr, train.trainer.epochs, train.trainer.average, curve.start, curve.every) == wanted
        assert (train.trainer.batch_size, train.augment.mixup, train.augment.timem, curve.warmup_steps) == (
            12, 0.5, 192, 1000,
        )  # fmt: skip
    assert full.clips.balanced and not balanced.clips.balanced
    reference = read("audioset/conf/fastast_kd.yaml")
    assert (reference.model.fstride, reference.model.tstride, reference.trainer.lr) == (12, 10, 2.5e-4)
    esc = read("esc50/conf/ast.yaml")
    assert (esc.trainer.lr, esc.trainer.batch_size, esc.augment.timem, esc.loss.binary) == (1e-4, 48, 96, False)
    torch.testing.assert_close(esc.trainer.learning_rate.factor(0, 6, 100), 0.85**2)
