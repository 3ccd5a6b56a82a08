import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from tome_audio.cli.loading import load_model
from tome_audio.models import TwoLayerCNN, save_checkpoint

LABELS = ["_silence_", "bell", "dog", "horn"]


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("bell", "dog", "_silence_"):
        (tmp_path / "clips" / "test" / label).mkdir(parents=True)
        (tmp_path / "clips" / "train" / label).mkdir(parents=True)
        for i in range(5):
            samples = np.zeros(9000) if label == "_silence_" else rng.uniform(-0.5, 0.5, 9000)
            part = "train" if i == 4 else "test"
            soundfile.write(tmp_path / "clips" / part / label / f"{i}.wav", samples, 16000)
    return tmp_path / "clips"


def confusion(model, clips):
    """Counts (truth, answer) of the unpatched model, clip by clip."""
    loaded, counts = load_model(str(model)), np.zeros((4, 4))
    for path in sorted((clips / "test").rglob("*.wav")):
        samples, _ = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            answer = loaded.model(loaded.prepare([torch.from_numpy(samples)])).argmax().item()
        counts[LABELS.index(path.parent.name), answer] += 1
    return counts


def test_scores_are_those_of_the_confusion_matrix(tmp_path, clips, checkpoint, run):
    out_dir = tmp_path / "out"
    code, out, _ = run("evaluate", "--model", checkpoint, "--data", clips, "--r", "0,4,2x", "--out", out_dir)
    assert code == 0 and "12 clips" in out and "macro F1 %" in out and "1 classes have no clip" in out
    table = pd.read_csv(out_dir / "evaluate.csv").set_index("r")
    assert list(table.index) == ["0", "4", "2x"] and (table["n_clips"] == 12).all()
    assert table["macs_cut"]["0"] == 1 and table["macs_cut"]["2x"] > 1.8 and (table["classes_left_out"] == 1).all()
    counts = confusion(checkpoint, clips)
    right, there, heard = counts.diagonal()[:3], counts.sum(1)[:3], counts.sum(0)[:3]
    precision, recall = right / heard.clip(1), right / there
    f1 = 2 * right / (there + heard)
    assert table["accuracy"]["0"] == pytest.approx(100 * right.sum() / 12, abs=1e-3)
    assert table["macro_precision"]["0"] == pytest.approx(100 * precision.mean(), abs=1e-3)
    assert table["macro_recall"]["0"] == pytest.approx(100 * recall.mean(), abs=1e-3)
    assert table["macro_f1"]["0"] == pytest.approx(100 * f1.mean(), abs=1e-3)
    classes = pd.read_csv(out_dir / "classes.csv")
    assert len(classes) == 12 and classes["label"].tolist()[:4] == LABELS
    assert np.allclose(classes["f1"][:3], 100 * f1, atol=1e-3) and np.isnan(classes["f1"][3])
    assert classes["n_positives"].tolist()[:4] == [4, 4, 4, 0]
    facts = json.loads((out_dir / "evaluate.json").read_text())
    assert facts["options"]["split"] == "test" and len(facts["rows"]) == 3 and len(facts["classes"]) == 12
    assert {p.name for p in out_dir.iterdir()} == {"evaluate.csv", "classes.csv", "evaluate.json"}


def test_a_model_without_tokens_is_scored_as_it_is(tmp_path, clips, run):
    features = {"mean": -4.0, "std": 4.0, "n_frames": 64}
    model = TwoLayerCNN(n_classes=4, n_frames=64)
    path = save_checkpoint(tmp_path / "cnn.safetensors", model, labels=LABELS, features=features)
    command = ("evaluate", "--model", path, "--data", clips, "--out", tmp_path / "out")
    code, out, _ = run(*command, "--r", "unpatched")
    table = pd.read_csv(tmp_path / "out" / "evaluate.csv")
    assert code == 0 and "speed-up" not in out and table["r"].tolist() == ["unpatched"]
    counts = confusion(path, clips)
    assert table["accuracy"][0] == pytest.approx(100 * counts.trace() / 12, abs=1e-3)
    code, _, err = run(*command, "--r", "0")
    assert code == 2 and "TwoLayerCNN holds no encoder" in err and "use --r unpatched" in err


def test_a_broken_clip_is_named_and_left_out(tmp_path, clips, checkpoint, run):
    (clips / "test" / "dog" / "3.wav").write_bytes(b"RIFF")
    code, out, err = run("evaluate", "--model", checkpoint, "--data", clips, "--r", "0", "--out", tmp_path / "out")
    assert code == 1 and "11 clips" in out and str(clips / "test" / "dog" / "3.wav") in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--r": "0,x"}, "--r '0,x' is not understood"),
        ({"--split": "valid"}, "has no clip in split 'valid'"),
        ({"--batch-size": "0"}, "must be at least 1"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, clips, checkpoint, run, change, message):
    options = {"--model": checkpoint, "--data": clips, "--r": "0", "--out": tmp_path / "out", **change}
    code, out, err = run("evaluate", *(word for pair in options.items() for word in pair))
    assert code == 2 and message in err and out == "" and not list((tmp_path / "out").glob("*"))
