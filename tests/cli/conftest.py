"""A small AST on disk, and the command line called in this process."""

import pytest
import torch

from tome_audio.cli.main import main
from tome_audio.models import AST, save_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = AST(None, width=16, depth=3, n_heads=2, n_classes=4, n_frames=64, fstride=16, tstride=16)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    labels = ["_silence_", "bell", "dog", "horn"]
    save_checkpoint(path, model, labels=labels, features={"mean": -4.0, "std": 4.0, "n_frames": 64})
    return path


@pytest.fixture
def run(capsys):
    """Run the command line; return its exit code, stdout and stderr."""

    def call(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:  # argument errors and --help leave this way
            code = exit.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call
