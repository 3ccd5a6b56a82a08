"""Clips, a class split and small settings, for all tests of `tome-audio fewshot`."""

import functools

import pytest
import torch
from generated_clips import SMALL, write_clips, write_split

from tome_audio.audio.front_end import FrontEnd
from tome_audio.cli import main
from tome_audio.models import FewShotNetwork, save_checkpoint


@pytest.fixture(autouse=True)
def one_parser(monkeypatch):
    """Build the parser of all commands once: it takes longer than most of what is called here."""
    monkeypatch.setattr(main, "_parser", lambda commands: _parser())


@functools.cache
def _parser(make=main._parser):
    return make(main._commands())


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def split(tmp_path_factory):
    return write_split(tmp_path_factory.mktemp("split") / "split.json")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def train(run, config, clips, split, tmp_path):
    """Run `tome-audio fewshot train` on the clips, into the folder `out` unless another --out is given."""

    def call(*words, data=clips, out=tmp_path / "out"):
        given = ("--config", config, "--data", data, "--classes.split", split, "--out", out)
        return run("fewshot", "train", *given, *words)

    return call


@pytest.fixture
def evaluate(run, clips, split, tmp_path):
    """Run `tome-audio fewshot evaluate` with few tasks, into the folder `scores` unless another --out is given."""

    def call(model, *words, data=clips, out=tmp_path / "scores"):
        given = ("--model", model, "--data", data, "--classes.split", split, "--out", out)
        shape = ("--n_way", 2, "--k_shot", 2, "--n_query", 2, "--n_tasks", 40)
        return run("fewshot", "evaluate", *given, *shape, *words)

    return call


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """Write few-shot networks with random weights, by encoder and head, as checkpoints of training are."""
    folder = tmp_path_factory.mktemp("untrained")

    def write(encoder="cnn", head=None, n_frames=48, **extra):
        torch.manual_seed(0)
        args = {"n_mels": 16, "n_frames": 16, "pool": [2, 2]}
        front = FrontEnd("log-mel", 16, 16, -10.0, 20.0)
        if encoder == "ast":
            args = {"variant": None, "width": 16, "depth": 2, "n_heads": 2, "fstride": 8, "tstride": 8, "pool": "avg"}
            args |= {"n_mels": 32, "n_frames": n_frames}
            front = FrontEnd("fbank", n_frames, 32, -8.0, 3.0)
        network = FewShotNetwork(encoder, args, head or {}, labels=("7", "300"))
        path = folder / f"{encoder}-{len(list(folder.iterdir()))}.safetensors"
        save_checkpoint(path, network, extra={"front_end": front.facts(), "distance": "squared", **extra})
        return path

    return write
