"""Every config of a recipe is understood by the command that reads it, and its sizes fit together."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from tome_audio.audio.features import AstStatistics
from tome_audio.cli.fewshot import build as few_shot_build
from tome_audio.cli.fewshot.data import make_views, shapes
from tome_audio.cli.fewshot.train import train as few_shot_train
from tome_audio.cli.main import _commands, _parser, instantiated
from tome_audio.cli.train_build import build_task, meta_model

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "egs").rglob("conf/*.yaml"))
FEW_SHOT = [path for path in CONFIGS if path.parent.parent.name == "fewshot" and not path.name.startswith("pretrain_")]
PRESETS = sorted((ROOT / "egs" / "fewshot" / "presets").glob("*.yaml"))
SAMPLE_ID = [path for path in CONFIGS if path.parent.parent.name == "sample_id"]
TRAIN = [path for path in CONFIGS if path.parent.parent.name != "smoke" and path not in (*FEW_SHOT, *SAMPLE_ID)]
RECIPES = sorted({path.parent.parent for path in TRAIN if path.parent.parent.name != "fewshot"})
SCENARIOS = ("plain", "enriched", "attention", "contrastive_cpl", "contrastive_apl", "augmented_cpl", "augmented_apl")


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


@pytest.fixture(scope="module")
def few_shot():
    """Return a function that reads configs of `tome-audio fewshot train`, later ones on top, as `given` and as groups.

    By a parser of this command alone: there are a hundred pairs to read.
    """
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(few_shot_train, skip={"resume"}, as_group=False)

    def read(*paths):
        given = parser.parse_args([*(f"--config={path}" for path in paths), "--data", "anywhere"])
        return given, instantiated(parser, given)

    return read


def test_the_five_scenarios_and_the_presets_are_there():
    assert set(SCENARIOS) <= {path.stem for path in FEW_SHOT} and {"smoke", "metaaudio", "relation"} <= {
        path.stem for path in FEW_SHOT
    }
    assert [path.stem for path in PRESETS] == ["birdclef", "esc50", "fsdkaggle18", "nsynth", "voxceleb"]


@pytest.mark.parametrize("path", FEW_SHOT, ids=name)
def test_a_few_shot_config_is_read_by_the_command(path, parser):
    parsed = parser.parse_args(["fewshot", "train", "--config", str(path), "--data", "anywhere"])["fewshot"]["train"]
    for key, value in leaves(yaml.safe_load(path.read_text())):
        found = parsed[key]
        assert (list(found) if isinstance(found, tuple) else found) == value, key


def check_it_builds(options, scenario):
    """Network, task and views of a config fit together."""
    head = options.head if options.contrastive.kind != "none" else replace(options.head, projection=None)
    labels = tuple(f"class {i}" for i in range(options.episodes.n_way))
    network = few_shot_build.build_network(options.encoder, head, options.audio, options.views.n_views, labels)
    assert sum(weights.numel() for weights in network.parameters()) > 1000 and network.labels == labels
    task = few_shot_build.build_task(head, options.contrastive, options.merge, network, seed=0)
    assert callable(task.loss)
    train, valid = shapes(options.episodes)
    assert train.n_way >= valid.n_way
    if options.views.kind == "spec":
        views = make_views(options.views, None, testing=False).of_features
        spectrograms = torch.zeros(1, options.audio.n_frames, options.audio.n_mels)
        assert views(spectrograms, torch.Generator().manual_seed(0)).shape[1] == 4
    if scenario and options.contrastive.kind == "cpl":
        assert options.contrastive.n_negatives <= train.n_query
    assert options.trainer.learning_rate.factor(0, 0, 10**6) >= 0


@pytest.mark.parametrize("path", FEW_SHOT, ids=name)
def test_a_few_shot_config_builds_its_network_alone_and_with_every_preset(path, few_shot):
    _, alone = few_shot(path)
    check_it_builds(alone, scenario=True)
    own = dict(leaves(yaml.safe_load(path.read_text())))
    for preset in PRESETS:
        given, options = few_shot(path, preset)
        on_top = dict(leaves(yaml.safe_load(preset.read_text())))
        for key, value in {**own, **on_top}.items():
            assert (list(given[key]) if isinstance(given[key], tuple) else given[key]) == value, (key, preset.stem)
        check_it_builds(options, scenario=path.stem in SCENARIOS)


def test_scenarios_are_what_their_names_say(few_shot):
    found = {stem: few_shot(ROOT / "egs" / "fewshot" / "conf" / f"{stem}.yaml")[1] for stem in SCENARIOS}
    said = {stem: (o.views.kind != "none", o.head.fusion, o.contrastive.kind) for stem, o in found.items()}
    assert said == {
        "plain": (False, False, "none"), "enriched": (True, False, "none"), "attention": (True, True, "none"),
        "contrastive_cpl": (False, False, "cpl"), "contrastive_apl": (False, False, "apl"),
        "augmented_cpl": (True, True, "cpl"), "augmented_apl": (True, True, "apl"),
    }  # fmt: skip
    for options in found.values():  # what the published experiments share
        trainer, curve = options.trainer, options.trainer.learning_rate
        assert options.encoder.kind == "crnn" and options.head.distance == "euclidean"
        assert (trainer.epochs, trainer.batch_size, trainer.patience, trainer.optimizer) == (200, 1, 70, "adam")
        assert (curve.curve, curve.start, curve.every) == ("multistep", 20, 20)
        assert shapes(options.episodes)[0] == shapes(options.episodes)[1] and options.episodes.per_epoch == 100
        if options.head.fusion:
            assert options.views.train_query and options.views.test_query
        else:
            assert options.views.train_support and not options.views.train_query


# Order of the columns: ESC-50, FSD, NSynth, BirdCLEF, VoxCeleb.
PUBLISHED = {
    "views.mask_param": (7, 16, 9, 6, 6),
    "views.warp": (20, 22, 36, 29, 29),
    "views.num_mask": (2, 1, 1, 1, 1),
    "views.p": (0.3127, 0.282, 0.42157, 0.298, 0.298),
    "trainer.lr": (3.8e-4, 7e-4, 8e-4, 1.49e-3, 1.49e-3),
    "trainer.learning_rate.decay": (0.376, 0.4482, 0.48426, 0.59974, 0.59974),
    "head.projection": ((128, 256), (512, 256), (64, 64), (128, 256), (128, 256)),
    "contrastive.weight": (1.7235, 2.022308, 8.566, 9.1625, 9.1625),
    "contrastive.temperature": (6.0488, 9.2361, 4.081, 2.6981, 2.6981),
    "contrastive.n_negatives": (3, 5, 3, 4, 4),
    "contrastive.angle": (15.0, 30.0, 15.0, 15.0, 0.0),
    "contrastive.prototypes_as_anchors": (True, False, False, False, True),
    "audio.n_frames": (157, 157, 126, 157, 157),
}


@pytest.mark.parametrize("column", range(5), ids=("esc50", "fsdkaggle18", "nsynth", "birdclef", "voxceleb"))
def test_published_settings_are_in_the_presets(column, few_shot):
    """Those of arXiv 2509.10074, which its loss functions as they were published need: legacy."""
    stem = ("esc50", "fsdkaggle18", "nsynth", "birdclef", "voxceleb")[column]
    folder = ROOT / "egs" / "fewshot"
    given, options = few_shot(folder / "conf" / "augmented_apl.yaml", folder / "presets" / f"{stem}.yaml")
    assert {key: given[key] for key in PUBLISHED} == {key: values[column] for key, values in PUBLISHED.items()}
    assert options.contrastive.legacy and options.contrastive.kind == "apl"
    assert options.views.data == {"fsdkaggle18": "fsd", "voxceleb": None}.get(stem, stem)
    # Projections are published with the size of what they read: four views of 64 numbers.
    network = few_shot_build.build_network(options.encoder, options.head, options.audio, options.views.n_views, ("a",))
    assert network.head.projection.in_dim == 256
