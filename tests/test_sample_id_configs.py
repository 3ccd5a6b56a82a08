"""Every config of the sample identification recipe is understood by the command that reads it, and its sizes fit."""

from pathlib import Path

import pytest
import torch
import yaml

from tome_audio.cli.main import _commands, _parser, instantiated
from tome_audio.cli.sampleid.build import build_encoder
from tome_audio.cli.train_build import meta_model

CONFIGS = sorted((Path(__file__).parent.parent / "egs" / "sample_id" / "conf").glob("*.yaml"))
COMMANDS = {"world": "generate", "closed": "closed-set", "evaluate": "evaluate"}


def command_of(path):
    return COMMANDS.get(path.stem.split("_")[0], "train")


def of_command(command):
    return [path for path in CONFIGS if command_of(path) == command]


@pytest.fixture(scope="module")
def read():
    parser = _parser(_commands())

    def call(path):
        command = command_of(path)
        needed = {"evaluate": ["--model", "anything"]}.get(command, [])
        needed += ["anywhere"] if command == "generate" else ["--data", "anywhere"]
        parsed = parser.parse_args(["sampleid", command, "--config", str(path), *needed])
        return parsed["sampleid"][command], instantiated(parser, parsed)["sampleid"][command]

    return call


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_every_command_has_its_configs():
    assert all(of_command(command) for command in ("generate", "closed-set", "evaluate", "train"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_is_read_by_its_command(path, read):
    parsed, _ = read(path)
    for key, value in leaves(yaml.safe_load(path.read_text())):
        found = parsed[key]
        assert (list(found) if isinstance(found, tuple) else found) == value, key


@pytest.mark.parametrize("path", of_command("train"), ids=lambda p: p.stem)
def test_an_encoder_takes_its_windows(path, read):
    _, options = read(path)
    n_frames = round(options.material.window * options.front_end.frames_per_second)
    with torch.device("meta"):
        network = build_encoder(options.encoder, n_mels=options.front_end.n_bins, n_frames=n_frames)
        assert network(torch.zeros(2, n_frames, options.front_end.n_bins)).shape == (2, options.encoder.n_dims)
    assert options.trainer.learning_rate.factor(0, 0, 10**6) >= 0


@pytest.mark.parametrize("path", of_command("closed-set"), ids=lambda p: p.stem)
def test_a_classifier_takes_its_windows(path, read):
    _, options = read(path)
    network = meta_model(options.model, options.features, ("a", "b", "c"))
    with torch.device("meta"):
        features = torch.zeros(2, options.features.n_frames, options.features.n_mels)
        assert network(features).shape == (2, 3)
    assert options.augment.timem <= options.features.n_frames and options.augment.freqm <= options.features.n_mels


def test_the_worlds_are_as_large_as_is_said(read):
    worlds = {path.stem: read(path)[1] for path in of_command("generate")}
    test, valid = worlds["world_full"].test, worlds["world_full"].valid
    assert (test.n_songs, test.n_originals, test.n_distractors) == (50, 100, 300) and test.n_without == 50
    assert valid.n_without and valid.n_material and worlds["world_full"].train.n_material >= 400
    closed = worlds["world_closed_set"]
    assert closed.train.n_songs == 3 * closed.shared_originals and closed.test.n_songs == closed.shared_originals
    assert worlds["world_clips"].flip.level_db == (-6.0, 0.0) and worlds["world_clips"].corpus.fold == 5
