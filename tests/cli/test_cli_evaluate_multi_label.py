"""Models for several labels per clip: mAP and no accuracy, on a manifest."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from tome_audio.audio import read_audio
from tome_audio.cli.loading import load_model
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_files import write_label_csv, write_manifest_csv
from tome_audio.metrics import multi_label_scores
from tome_audio.models import AST, save_checkpoint

NAMES = ("dog, barking", "horn", "rain")


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    net = AST(None, width=16, depth=3, n_heads=2, n_classes=3, n_frames=64, fstride=16, tstride=16)
    torch.nn.init.normal_(net.mlp_head[1].weight)
    features = {"mean": -4.0, "std": 4.0, "n_frames": 64}
    return save_checkpoint(
        tmp_path / "m.safetensors", net, labels=NAMES, features=features, extra={"multi_label": True}
    )


@pytest.fixture
def data(tmp_path):
    labels, entries = ("/m/1", "/m/2", "/m/3"), []
    for i in range(12):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, np.random.default_rng(i).uniform(-0.5, 0.5, 9000) * (i + 1) / 12, 16000)
        own = tuple(label for k, label in enumerate(labels) if (i >> k) & 1) or labels[:2]
        entries.append(Entry(path.stem, path, own, "test" if i < 10 else "train"))
    manifest = Manifest(tuple(entries), labels, NAMES)
    write_manifest_csv(manifest, tmp_path / "manifest.csv")
    write_label_csv(manifest, tmp_path / "labels.csv")
    return tmp_path, manifest


def test_scores_are_those_of_the_logits(tmp_path, model, data, run):
    folder, manifest = data
    out = tmp_path / "out"
    code, text, err = run("evaluate", "--model", model, "--data", folder, "--r", "0,2x", "--out", out)
    assert code == 0 and "mAP" in text and "accuracy" not in text, err
    loaded = load_model(str(model))
    with torch.inference_mode():
        logits = loaded.model(loaded.prepare([read_audio(entry.path) for entry in manifest.entries[:10]]))
    wanted = multi_label_scores(logits, manifest.targets()[:10])
    table = pd.read_csv(out / "evaluate.csv").set_index("r")
    assert "accuracy" not in table.columns and (table["n_clips"] == 10).all() and table["macs_cut"]["2x"] > 1.8
    assert table["mean_ap"]["0"] == pytest.approx(wanted.mean_ap, abs=1e-4)
    assert table["d_prime"]["0"] == pytest.approx(wanted.d_prime, abs=1e-4)
    classes = pd.read_csv(out / "classes.csv")
    assert classes["label"].tolist() == list(NAMES) * 2
    assert np.allclose(classes["average_precision"][:3], wanted.average_precision, atol=1e-4)
    assert json.loads((out / "evaluate.json").read_text())["options"]["split"] == "test"
    code, text, _ = run("results", out, "--title", "Two labels")
    assert code == 0 and f"| 0 | {wanted.mean_ap:.4f} |" in text and "accuracy" not in text


def test_a_folder_without_a_manifest_is_refused(tmp_path, model, run):
    code, _, err = run("evaluate", "--model", model, "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 2 and "tome-audio manifest" in err


def test_results_of_runs_that_do_not_fit_are_refused(tmp_path, model, data, run):
    for name, r in (("run-fold1", "0"), ("run-fold2", "0,2x")):
        assert run("evaluate", "--model", model, "--data", data[0], "--r", r, "--out", tmp_path / name)[0] == 0
    code, _, err = run("results", tmp_path / "run-fold1", tmp_path / "run-fold2")
    assert code == 2 and "different r" in err
    code, _, err = run("results", tmp_path / "nowhere")
    assert code == 2 and "tome-audio evaluate" in err
