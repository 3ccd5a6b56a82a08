import json

import numpy as np
import pandas as pd
import pytest
import soundfile


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("bell", "dog", "_silence_"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for i in range(4):
            samples = np.zeros(9000) if label == "_silence_" else rng.uniform(-0.5, 0.5, 9000)
            soundfile.write(tmp_path / "clips" / label / f"{i}.wav", samples, 16000)
    return tmp_path / "clips"


def test_results_are_complete(tmp_path, clips, checkpoint, run):
    out_dir = tmp_path / "deep" / "results"
    code, out, _ = run(
        "sweep", "--model", checkpoint, "--data", clips, "--r", "0,4,[9,2],(4,-1)", "--batch-size", 5, "--out", out_dir
    )
    assert code == 0 and "12 clips" in out and "[9,2]" in out
    table = pd.read_csv(out_dir / "sweep.csv")
    assert table["r"].tolist() == ["0", "4", "[9,2]", "(4,-1)"]
    assert table["tokens_left"].tolist() == [34, 26, 23, 22]
    assert (
        (table["n_clips"] == 12).all() and table["macs_cut"].iloc[0] == 1 and (table["macs_cut"].iloc[1:] > 1.1).all()
    )
    assert table["agreement"].iloc[0] == 100 and table["accuracy"].between(0, 100).all()
    # All silent clips look the same, so they are all right or all wrong.
    spoken = table["accuracy_spoken"] * 8 / 100
    assert np.allclose(spoken, spoken.round())
    facts = json.loads((out_dir / "sweep.json").read_text())
    assert facts["options"]["r"] == "0,4,[9,2],(4,-1)" and facts["environment"]["torch"] and len(facts["rows"]) == 4
    assert {p.name for p in out_dir.iterdir()} == {"sweep.csv", "sweep.json", "sweep.png", "sweep.svg"}


def test_a_broken_clip_is_named_and_left_out(tmp_path, clips, checkpoint, run):
    (clips / "dog" / "3.wav").write_bytes(b"RIFF")
    code, out, err = run("sweep", "--model", checkpoint, "--data", clips, "--r", "0", "--out", tmp_path / "out")
    assert code == 1 and "11 clips" in out and str(clips / "dog" / "3.wav") in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--r": "0,x"}, "--r '0,x' is not understood"),
        ({"--r": "-3"}, "r=-3 is not understood"),
        ({"--r": "[1,2,3,4]"}, "r lists 4 layers but the model has 3"),
        ({"--data": "/nowhere"}, "/nowhere is not a folder"),
        ({"--model": "nobody"}, "'nobody' is not a model"),
        ({"--model": "ast-tiny224"}, "cannot classify audio"),
        ({"--model": "none.safetensors"}, "none.safetensors"),
        ({"--batch-size": "0"}, "must be at least 1"),
        ({"--split": "valid"}, "has no clip in split 'valid'"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, clips, checkpoint, run, change, message):
    options = {"--model": checkpoint, "--data": clips, "--r": "0", "--out": tmp_path / "out", **change}
    code, out, err = run("sweep", *(word for pair in options.items() for word in pair))
    assert code == 2 and message in err and out == ""
    assert not list((tmp_path / "out").glob("*"))


def test_unknown_labels_are_counted(tmp_path, clips, checkpoint, run):
    (clips / "dog").rename(clips / "wolf")
    code, _, err = run("sweep", "--model", checkpoint, "--data", clips, "--out", tmp_path / "out")
    assert code == 2 and "does not know these labels: wolf (4 clips)" in err


def test_kwt1_keeps_its_accuracy(real_data, tmp_path, run):
    """The published claims of the README, on all 2710 clips."""
    weights = real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz"
    rates = "0,8,[45,20,12,6]"
    code, _, _ = run(
        "sweep", "--model", weights, "--data", real_data / "speech_commands", "--r", rates, "--out", tmp_path
    )
    assert code == 0
    reference = np.load(weights.with_name("reference_logits.npz"))
    labels = (weights.with_name("labels.txt")).read_text().split()
    truth = np.array([labels.index(name.split("/")[1]) for name in reference["files"].tolist()])
    right = (reference["logits"].argmax(1) == truth)[truth != labels.index("_silence_")]
    table = pd.read_csv(tmp_path / "sweep.csv").set_index("r")
    assert (table["n_clips"] == 2710).all()
    spoken = table["accuracy_spoken"]
    assert abs(spoken["0"] - 100 * right.mean()) < 0.05
    assert spoken["8"] > spoken["0"] - 0.3 and round(table["macs_cut"]["8"], 2) == 2.10
    assert spoken["[45,20,12,6]"] > spoken["0"] - 0.8 and table["macs_cut"]["[45,20,12,6]"] > 4.6
