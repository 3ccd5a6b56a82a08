"""The demo itself runs in the smoke recipe; here is what the recipe does not reach."""

import numpy as np
import pytest
import soundfile

from tome_audio.models import load_checkpoint


@pytest.fixture
def recordings(tmp_path):
    """FSDD's layout: two digits, ten recordings each, told apart by pitch."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for digit, pitch in ((0, 300), (1, 1500)):
        for index in range(10):
            samples = 0.4 * np.sin(2 * np.pi * pitch * (1 + index / 100) * np.arange(4000) / 8000)
            soundfile.write(folder / f"{digit}_anna_{index}.wav", samples, 8000)
    return tmp_path


def test_own_clips(recordings, tmp_path, run):
    out_dir = tmp_path / "out"
    code, out, err = run("demo", "--data", recordings, "--epochs", 2, "--out", out_dir)
    assert code == 0, err
    assert "20 clips" not in out and "10 clips" in out and "tome-audio classify" in out
    model, facts = load_checkpoint(out_dir / "model.safetensors")
    assert facts.labels == ("0", "1") and model.n_frames == 80
    assert {p.name for p in out_dir.iterdir()} == {
        "model.safetensors", "sweep.csv", "sweep.json", "sweep.png", "sweep.svg", "merged.png", "merged.svg",
    }  # fmt: skip


def test_a_stopped_demo_goes_on_where_it_was(recordings, tmp_path, run, monkeypatch):
    import tome_audio.training.loop as loop

    options = ("demo", "--data", recordings, "--epochs", 3)
    assert run(*options, "--out", tmp_path / "whole")[0] == 0
    train_epoch, done = loop._train_epoch, []

    def stop_in_second_epoch(*args):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(train_epoch(*args))
        return done[-1]

    monkeypatch.setattr(loop, "_train_epoch", stop_in_second_epoch)
    assert run(*options, "--out", tmp_path / "parts")[0] == 130
    assert [p.name for p in (tmp_path / "parts").iterdir()] == ["training.state"]
    monkeypatch.setattr(loop, "_train_epoch", train_epoch)
    code, out, _ = run(*options, "--out", tmp_path / "parts")
    assert code == 0 and "epoch 1:" not in out and "epoch 2:" in out
    whole, parts = (load_checkpoint(tmp_path / name / "model.safetensors")[0] for name in ("whole", "parts"))
    assert all((a == b).all() for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", 0), "--epochs must be at least 1"),
        (("--threads", 0), "--threads must be at least 1"),
        (("--data", "/nowhere"), "/nowhere is not a folder"),
    ],
)
def test_bad_options(tmp_path, run, options, message):
    code, _, err = run("demo", *options, "--out", tmp_path / "out")
    assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_a_test_label_that_was_never_trained(recordings, tmp_path, run):
    for index in range(5):
        (recordings / "recordings" / f"0_anna_{index}.wav").rename(recordings / "recordings" / f"7_anna_{index}.wav")
    code, _, err = run("demo", "--data", recordings, "--out", tmp_path / "out")
    assert code == 2 and "the training part does not know these labels: 7 (5 clips)" in err
