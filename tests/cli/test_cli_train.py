"""Training from the command line: bad clips named first, what is written, killed and resumed, merged, taught."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from clip_files import write_bad_clips
from safetensors.torch import load_file

from tome_audio.cli.loading import load_model
from tome_audio.data.corpora.sound_events import CLASSES, make_sound_event
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_files import write_label_csv, write_manifest_csv
from tome_audio.models import AST, TwoLayerCNN, save_checkpoint

pytest.importorskip("accelerate")
ROOT = Path(__file__).parent.parent.parent
SMALL = """
features: {n_frames: 64}
augment: {mixup: 0.5, freqm: 8, timem: 8}
model: {kind: ast, width: 16, depth: 2, n_heads: 2, fstride: 16, tstride: 16}
trainer: {epochs: 2, batch_size: 4, lr: 1.0e-3, save_every: 1, cpu: true}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A manifest of three classes: eight clips each to train on, two to validate on, two to test on."""
    folder, entries = tmp_path_factory.mktemp("clips"), []
    for number, label in enumerate(CLASSES[:3]):
        for i in range(12):
            path = folder / f"{label}-{i}.wav"
            soundfile.write(path, make_sound_event(label, np.random.default_rng([number, i]), seconds=0.7), 16000)
            split = "train" if i < 8 else "valid" if i < 10 else "test"
            entries.append(Entry(path.stem, path, (label,), split))
    return write(Manifest(tuple(entries), CLASSES[:3]), folder)


def write(manifest, folder):
    write_manifest_csv(manifest, folder / "manifest.csv")
    write_label_csv(manifest, folder / "labels.csv")
    return folder


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def with_bad_clips(data, folder):
    """The manifest with five clips nobody can learn from, one of each kind, in train."""
    from tome_audio.data.manifest_files import read_manifest_csv

    bad = write_bad_clips(folder / "bad")
    good = read_manifest_csv(data / "manifest.csv", label_csv=data / "labels.csv")
    label = good.labels[0]
    names = ("missing.wav", "truncated.flac", "empty.wav", "nan.wav")
    entries = [Entry(name, bad[name], (label,), "train") for name in names]
    entries.append(Entry("odd.wav", good.entries[0].path, ("no such class",), "train"))
    out = folder / "with_bad"
    out.mkdir()
    return write(Manifest((*good.entries, *entries), good.labels), out)


def test_unusable_clips_are_named_before_training_starts(tmp_path, data, config, run):
    bad, out = with_bad_clips(data, tmp_path), tmp_path / "out"
    code, _, err = run("train", "--config", config, "--data", bad, "--out", out)
    assert code == 2 and "5 of 35 clips cannot be used" in err and "skip_unusable" in err
    for name in ("missing.wav", "truncated.flac", "empty.wav", "nan.wav", "no such class"):
        assert name in err
    table = pd.read_csv(out / "problems.csv")
    kinds = dict(zip(table["id"], table["kind"], strict=True))
    assert kinds["truncated.flac"] in ("truncated", "damaged")  # as libsndfile puts it
    assert sorted(table["kind"]) == sorted([kinds["truncated.flac"], "empty", "missing", "not finite", "unknown label"])
    assert not list(out.glob("*.safetensors")) and not (out / "checkpoints").exists()


def test_training_goes_on_without_unusable_clips_where_it_may(tmp_path, data, config, run):
    bad, out = with_bad_clips(data, tmp_path), tmp_path / "out"
    words = ("--clips.skip_unusable", "true", "--trainer.epochs", "1")
    code, text, err = run("train", "--config", config, "--data", bad, "--out", out, *words)
    assert code == 1 and "skipped 5 of 35 clips; training goes on with 30" in err
    assert "on 24 clips, 6 to validate on" in text
    assert json.loads((out / "train.json").read_text())["skipped"] == 5


def test_what_is_written_is_taken_by_the_other_commands(tmp_path, data, config, run):
    out = tmp_path / "out"
    code, text, _ = run("train", "--config", config, "--data", data, "--out", out, "--tensorboard", "true")
    assert code == 0 and "model.safetensors" in text
    epochs, facts = pd.read_csv(out / "epochs.csv"), json.loads((out / "train.json").read_text())
    assert len(epochs) == 2 and {"loss", "lr", "score", "accuracy", "macro_f1"} <= set(epochs.columns)
    assert facts["options"]["augment"]["mixup"] == 0.5 and facts["options"]["trainer"]["learning_rate"]["curve"]
    assert facts["environment"]["torch"] and facts["environment"]["commit"]
    best = epochs["accuracy"].max()
    assert facts["valid"]["accuracy"] == pytest.approx(best)
    loaded = load_model(str(out / "model.safetensors"))
    assert loaded.labels == CLASSES[:3] and not loaded.multi_label
    words = ("--model", out / "model.safetensors", "--data", data, "--r", "0,2x", "--split", "valid")
    code, _, _ = run("evaluate", *words, "--out", tmp_path / "evaluate")
    table = pd.read_csv(tmp_path / "evaluate" / "evaluate.csv")
    assert code == 0 and table["n_clips"][0] == 6 and table["accuracy"][0] == pytest.approx(100 * best, abs=1e-3)
    code, text, _ = run("results", tmp_path / "evaluate", tmp_path / "evaluate", "--append", tmp_path / "R.md")
    written = (tmp_path / "R.md").read_text()
    assert code == 0 and f"| 0 | {100 * best:.2f} ± 0.00 |" in written and "over 2 runs" in written


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, data, config, run):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ("train", "--config", config, "--data", data)
    assert run(*words, "--out", whole)[0] == 0
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "tome_audio.cli.main", *map(str, words), "--out", str(killed)]
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while child.poll() is None and not list((killed / "checkpoints").glob("epoch-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (killed / "model.safetensors").exists(), "the run had ended before it could be killed"
    assert run(*words, "--out", killed)[0] == 2  # there is a run already, and nobody said to resume it
    assert run(*words, "--out", killed, "--resume")[0] == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    histories = [pd.read_csv(folder / "epochs.csv").drop(columns="seconds") for folder in (whole, killed)]
    pd.testing.assert_frame_equal(*histories)
    assert len(pd.read_csv(killed / "steps.csv")) == 12


def test_resuming_another_recipe_is_refused(tmp_path, data, config, run):
    words = ("train", "--config", config, "--data", data, "--out", tmp_path / "out", "--trainer.epochs", "1")
    assert run(*words)[0] == 0
    code, _, err = run(*words, "--resume", "--augment.freqm", "4")
    assert code == 2 and "augment.freqm was 8, now 4" in err


def test_a_teacher_pulls_the_student(tmp_path, data, config, run):
    """With lambda 0 a student of one class's teacher answers that class, whatever the labels say."""
    torch.manual_seed(0)
    teacher = TwoLayerCNN(n_classes=3, n_frames=64)
    torch.nn.init.zeros_(teacher.head[-1].weight)
    teacher.head[-1].bias.data = torch.tensor([0.0, 9.0, 0.0])
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, teacher, labels=CLASSES[:3], features={"mean": -4.0, "std": 4.0, "n_frames": 64})
    logits = tmp_path / "logits"
    assert run("teacher-logits", "--model", path, "--data", data, "--split", "train", "--out", logits)[0] == 0
    common = ("train", "--config", config, "--data", data, "--distill.weight", "0.0", "--trainer.epochs", "6")
    for name, words in (("logits", ("--distill.logits", logits)), ("model", ("--distill.model", path))):
        out = tmp_path / name
        assert run(*common, *words, "--out", out, "--trainer.lr", "1e-2")[0] == 0
        steps = pd.read_csv(out / "steps.csv")
        assert {"hard", "soft"} <= set(steps.columns) and steps["soft"].iloc[-1] < 0.2 * steps["soft"].iloc[0]
        assert pd.read_csv(out / "epochs.csv")["accuracy"].iloc[-1] == pytest.approx(1 / 3)


def test_merging_while_training_and_teaching_oneself(tmp_path, data, config, run):
    words = ("train", "--config", config, "--data", data, "--trainer.epochs", "1", "--merge.r", "0,4,2x")
    code, _, err = run(*words, "--distill.weight", "0.5", "--distill.itself", "true", "--out", tmp_path / "out")
    assert code == 0, err
    assert type(load_model(str(tmp_path / "out" / "model.safetensors")).model) is AST
    facts = json.loads((tmp_path / "out" / "train.json").read_text())
    assert facts["options"]["merge"]["r"] == "0,4,2x" and facts["options"]["distill"]["itself"]
    changed = pd.read_csv(tmp_path / "out" / "steps.csv")["soft"]
    assert (changed >= -1e-6).all() and changed.max() > 0
    again = ("--distill.weight", "0.5", "--distill.itself", "true", "--out", tmp_path / "out", "--resume")
    code, _, err = run(*words, *again, "--trainer.seed", "7")  # with other draws of r
    assert code == 2 and "; seed was 0, now 7" in err and "task.merge.seed was 0, now 7" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--distill.weight", "0.1"), "needs one teacher"),
        (("--distill.weight", "0.1", "--distill.itself", "true"), "say how it merges with merge.r"),
        (("--merge.r", "4", "--merge.between", "[0,4]"), "exclude each other"),
        (("--loss.best", "mean_ap"), "several labels per clip"),
        (("--clips.multi_label", "true"), "loss.binary true"),
        (("--features.mean", "1.0"), "both features.mean and features.std"),
        (("--trainer.epochs", "0"), "epochs must be at least 1"),
        (("--model.n_heads", "3"), "can not be split over 3 heads"),
        (("--model.kind", "rnn"), "model.kind"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path, data, config, run, words, said):
    code, _, err = run("train", "--config", config, "--data", data, "--out", tmp_path / "out", *words)
    assert code == 2 and said in err and not list((tmp_path / "out").glob("*.safetensors"))


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(tmp_path, data, config, run):
    """The same config; only the launcher and the batch of each process differ."""
    words = ["train", "--config", config, "--data", data, "--trainer.epochs", "1"]
    assert run(*words, "--out", tmp_path / "one")[0] == 0
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tome_audio.cli.main", *words, "--trainer.batch_size", "2", "--out", tmp_path / "two"]
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training ast") == 1  # one process speaks for both
    one, two = (pd.read_csv(tmp_path / name / "steps.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 6 and np.allclose(one["loss"], two["loss"], rtol=0, atol=1e-4)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)


def test_a_valid_set_of_its_own_and_a_start_from_another_model(tmp_path, data, config, run):
    first = ("train", "--config", config, "--data", data, "--trainer.epochs", "1")
    assert run(*first, "--out", tmp_path / "first")[0] == 0
    start, out = tmp_path / "first" / "model.safetensors", tmp_path / "second"
    words = ("--model.start", start, "--clips.valid_data", data / "manifest_valid.csv", "--trainer.lr", "1e-9")
    table = pd.read_csv(data / "manifest.csv", dtype=str)
    chosen = table[table["split"] == "test"].assign(path=lambda t: [str(data / p) for p in t["path"]])
    chosen.to_csv(data / "manifest_valid.csv", index=False)
    code, text, err = run(*first, *words, "--out", out)
    assert code == 0 and "on 24 clips, 6 to validate on" in text, err
    before, after = load_file(start), load_file(out / "model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    code, _, err = run(*first, *words, "--model.width", "32", "--out", tmp_path / "third")
    assert code == 2 and "does not fit the model to be trained" in err
