"""Overlays from the command line: made of a corpus, trained on as clips with several labels, scored by mAP."""

import json

import pandas as pd
import pytest

from tome_audio.data.corpora.imitations import imitate
from tome_audio.data.manifest_files import read_manifest_csv

COUNTS = ("--n-train", 16, "--n-valid", 8, "--n-test", 8)
TINY = """
features: {n_frames: 64}
clips: {multi_label: true, balanced: true}
augment: {mixup: 0.5, freqm: 8, timem: 8}
model: {kind: ast, width: 16, depth: 2, n_heads: 2, fstride: 16, tstride: 16, pool: avg}
loss: {binary: true, best: mean_ap}
trainer: {epochs: 1, batch_size: 4, lr: 1.0e-3, cpu: true}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return imitate("esc50", tmp_path_factory.mktemp("corpus"))


def test_overlays_are_trained_on_and_scored(tmp_path, corpus, run):
    pytest.importorskip("accelerate")
    pytest.importorskip("torchmetrics")
    data, out = tmp_path / "overlays", tmp_path / "out"
    code, text, err = run("overlay", "--data", corpus, "--corpus.name", "esc50", "--out", data, *COUNTS)
    assert code == 0 and "8 test, 16 train, 8 valid; 4 classes" in text and "parts.csv" in text, err
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    code, text, err = run("train", "--config", config, "--data", data, "--out", out)
    assert code == 0 and "on 16 clips, 8 to validate on" in text, err
    facts = json.loads((out / "train.json").read_text())
    assert facts["multi_label"] and facts["options"]["clips"]["balanced"] and 0 < facts["valid"]["mean_ap"] <= 1
    words = ("--model", out / "model.safetensors", "--data", data, "--out", tmp_path / "scores")
    code, text, err = run("evaluate", *words, "--r", "0,2x")
    assert code == 0 and "mAP" in text and "accuracy" not in text, err
    table = pd.read_csv(tmp_path / "scores" / "evaluate.csv")
    assert (table["n_clips"] == 8).all() and table["macs_cut"][1] > 1.5 and (table["mean_ap"] > 0).all()


def test_a_manifest_and_the_corpus_give_the_same_overlays(tmp_path, corpus, run):
    fold = ("--corpus.name", "esc50", "--corpus.fold", 3)
    assert run("manifest", "--data", corpus, "--out", tmp_path / "manifest", *fold)[0] == 0
    for name, words in (("first", (tmp_path / "manifest",)), ("second", (corpus, *fold))):
        code, _, err = run("overlay", "--data", *words, "--out", tmp_path / name, *COUNTS, "--seconds", 0.5)
        assert code == 0, err
    for path in ("manifest.csv", "parts.csv", "labels.csv", "audio/test/test-00007.flac"):
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()


def test_stage_1_of_the_audioset_recipe_passes_overlays_through(tmp_path, corpus, run):
    data, clips = tmp_path / "overlays", tmp_path / "clips"
    assert run("overlay", "--data", corpus, "--corpus.name", "esc50", "--out", data, *COUNTS)[0] == 0
    words = ("--corpus.name", "audioset", "--corpus.train", "balanced")  # as egs/audioset/run.sh says
    assert run("manifest", "--data", data, "--out", clips, *words)[0] == 0
    first, second = (read_manifest_csv(at / "manifest.csv", label_csv=at / "labels.csv") for at in (data, clips))
    assert first == second and all(entry.path.is_file() for entry in second.entries)


def test_recordings_in_two_splits_are_left_out_and_counted(tmp_path, corpus, run):
    assert run("manifest", "--data", corpus, "--out", tmp_path / "manifest", "--corpus.name", "esc50")[0] == 0
    table = tmp_path / "manifest" / "manifest.csv"
    rows = pd.read_csv(table, dtype=str)
    heard = rows.loc[rows["split"] == "test", "source"].iloc[0]
    rows.loc[rows.index[rows["split"] == "train"][:2], "source"] = heard
    rows.to_csv(table, index=False)
    code, text, err = run("overlay", "--data", table, "--out", tmp_path / "out", *COUNTS)
    assert code == 0 and "2 clips are left out: their recordings are in another split too" in text, err
    parts = pd.read_csv(tmp_path / "out" / "parts.csv", dtype=str)
    assert not parts.loc[parts["id"].str.startswith("train"), "source"].eq(heard).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed", 1), "seed was 0, now 1"),
        (("--n-train", 0), "n_train must be at least 1"),
        (("--data", "nowhere"), "nowhere"),
        (("--data", "OUT"), "clips with one label each"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path, corpus, run, words, said):
    out = tmp_path / "out"
    first = ("overlay", "--data", corpus, "--corpus.name", "esc50", "--out", out, *COUNTS)
    assert run(*first)[0] == 0
    code, text, err = run(*first, *(out if word == "OUT" else word for word in words))
    assert code == 2 and said in err and err.count("\n") == 1 and not text
