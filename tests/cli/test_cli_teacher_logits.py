import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from tome_audio.cli.loading import load_model
from tome_audio.data.manifest import find_manifest
from tome_audio.data.teacher_logits import read_teacher_logits
from tome_audio.models import SpectrogramCNN, TwoLayerCNN, load_kwt, save_checkpoint

LABELS = ["_silence_", "bell", "dog", "horn"]


def write_clips(folder, n, seconds=0.5):
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / ("bell", "dog")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(16000 * seconds)), 16000)
    return folder


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips", 6)


@pytest.fixture(scope="session")
def cnn(tmp_path_factory):
    torch.manual_seed(1)
    model = SpectrogramCNN("mobilenetv3_small_050", n_classes=4, n_frames=64)
    path = tmp_path_factory.mktemp("cnn") / "cnn.safetensors"
    return save_checkpoint(path, model, labels=LABELS, features={"mean": -4.0, "std": 4.0, "n_frames": 64})


def answer(model, path):
    loaded = load_model(str(model))
    samples, _ = soundfile.read(path, dtype="float32")
    with torch.inference_mode():
        return loaded.model(loaded.prepare([torch.from_numpy(samples)]))[0]


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_store_holds_what_the_model_answers(tmp_path, clips, checkpoint, run):
    out_dir = tmp_path / "deep" / "teacher"
    code, out, err = run(
        "teacher-logits", "--model", checkpoint, "--data", clips, "--out", out_dir, "--batch-size", 4, "--shard-size", 4
    )
    assert (code, err) == (0, "") and "6 clips" in out
    assert sorted(p.name for p in out_dir.iterdir()) == ["logits-00000.npz", "logits-00001.npz", "teacher.json"]
    found = read_teacher_logits(out_dir, LABELS)
    ids = [f"{('bell', 'dog')[i % 2]}/{i}" for i in range(6)]
    batch = found.lookup(ids)
    assert batch.known.all()
    for name, row in zip(ids, batch.logits, strict=True):
        assert torch.allclose(row, answer(checkpoint, clips / f"{name}.wav"), atol=1e-5)
    facts = json.loads((out_dir / "teacher.json").read_text())
    assert facts["models"][0]["name"] == "small.safetensors" and len(facts["models"][0]["sha256"]) == 64
    assert facts["settings"] == {"average": "logits", "multi_label": False} and facts["versions"]["torch"]


def test_several_models_are_averaged(tmp_path, clips, checkpoint, cnn, run):
    options = ("--data", clips, "--out", tmp_path / "t")
    assert run("teacher-logits", "--model", checkpoint, "--model", cnn, *options)[0] == 0
    found = read_teacher_logits(tmp_path / "t").lookup(["bell/0"]).logits[0]
    path = clips / "bell" / "0.wav"
    assert torch.allclose(found, (answer(checkpoint, path) + answer(cnn, path)) / 2, atol=1e-5)
    before = snapshot(tmp_path / "t")
    code, out, err = run("teacher-logits", "--model", checkpoint, *options)
    assert code == 2 and "holds logits of another run (models were" in err and out == ""
    assert snapshot(tmp_path / "t") == before


def test_options_can_come_from_a_file(tmp_path, clips, checkpoint, cnn, run):
    for models in (f"model: {checkpoint}", f"model: [{checkpoint}, {cnn}]"):
        (tmp_path / "c.yaml").write_text(f"{models}\ndata: {clips}\nout: {tmp_path / 't'}\n")
        code, _, err = run("teacher-logits", "--config", tmp_path / "c.yaml")
        assert code == 0 and err == ""
        facts = json.loads((tmp_path / "t" / "teacher.json").read_text())
        assert len(facts["models"]) == models.count("safetensors")
        (tmp_path / "t").rename(tmp_path / f"{len(facts['models'])}")


def test_bad_files_are_named_and_tried_again(tmp_path, clips, checkpoint, run):
    good = (clips / "dog" / "1.wav").read_bytes()
    (clips / "dog" / "1.wav").write_bytes(b"RIFF")
    (clips / "bell" / "0.wav").write_bytes(b"")
    command = ("teacher-logits", "--model", checkpoint, "--data", clips, "--out", tmp_path / "t", "--batch-size", 1)
    code, out, err = run(*command)
    assert code == 1 and "logits of 4 clips" in out and err.count("\n") == 2
    assert str(clips / "dog" / "1.wav") in err and str(clips / "bell" / "0.wav") in err
    (clips / "dog" / "1.wav").write_bytes(good)
    code, out, err = run(*command)
    out = " ".join(out.split())  # lines end where the path of the folder lets them
    assert code == 1 and "logits of 5 clips" in out and "4 of them by an earlier run" in out and err.count("\n") == 1
    assert read_teacher_logits(tmp_path / "t").missing(["dog/1", "bell/0"]) == ["bell/0"]


def test_another_folder_with_the_same_names_is_not_taken_for_the_first(tmp_path, clips, checkpoint, run):
    command = ("teacher-logits", "--model", checkpoint, "--out", tmp_path / "t", "--shard-size", 2)
    assert run(*command, "--data", clips)[0] == 0
    before = snapshot(tmp_path / "t")
    assert run(*command, "--data", clips.rename(tmp_path / "moved"))[0] == 0
    other = write_clips(tmp_path / "clips", 8)
    (other / "dog" / "1.wav").write_bytes((other / "dog" / "3.wav").read_bytes())
    code, out, err = run(*command, "--data", other)
    assert code == 2 and out == "" and f"1 of 8 clips have changed since, such as {other / 'dog' / '1.wav'}" in err
    assert snapshot(tmp_path / "t") == before


def test_clips_of_any_name_have_the_ids_that_training_gives_them(tmp_path, clips, checkpoint, run):
    """Suffixes that are not those of audio, dots in names, and a file outside the folder."""
    names = ["bell/0.wav", "bell/2.1.wav", "bell/take.4", "dog/1.WAV", "dog/3", str(tmp_path / "outside.wav")]
    for i, name in zip((0, 2, 4, 1, 3, 5), names, strict=True):
        (clips / ("bell", "dog")[i % 2] / f"{i}.wav").rename(clips / name)
    rows = [f"{name},{('bell', 'dog')[i % 2]},train" for i, name in enumerate(names)]
    (clips / "split.csv").write_text("file,label,split\n" + "\n".join(rows) + "\n")
    assert run("teacher-logits", "--model", checkpoint, "--data", clips, "--out", tmp_path / "t")[0] == 0
    trained_on = [entry.id for entry in find_manifest(clips).entries]
    assert sorted(read_teacher_logits(tmp_path / "t").rows) == sorted(trained_on)
    assert trained_on[:5] == ["bell/0", "bell/2.1", "bell/take.4", "dog/1", "dog/3"]


def test_when_no_clip_can_be_used_nothing_is_claimed(tmp_path, clips, checkpoint, run):
    for path in clips.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    code, out, err = run("teacher-logits", "--model", checkpoint, "--data", clips, "--out", tmp_path / "t")
    assert code == 2 and out == "" and "none of 6 clips" in err and err.count("\n") == 7


def test_logits_that_are_not_numbers_are_left_out(tmp_path, clips, run):
    model = TwoLayerCNN(n_classes=4, n_frames=64)
    torch.nn.init.constant_(model.head[-1].bias, torch.nan)
    features = {"mean": -4.0, "std": 4.0, "n_frames": 64}
    path = save_checkpoint(tmp_path / "nan.safetensors", model, labels=LABELS, features=features)
    code, _, err = run("teacher-logits", "--model", path, "--data", clips, "--out", tmp_path / "t")
    assert code == 2 and err.count("the logits are NaN or infinite") == 6


def test_a_folder_without_classes_and_a_split(tmp_path, checkpoint, run):
    flat = write_clips(tmp_path / "a", 2)
    (flat / "dog").rename(flat / "bell" / "more")
    command = ("teacher-logits", "--model", checkpoint, "--data", flat, "--out", tmp_path / "t")
    assert run(*command)[0] == 0
    assert read_teacher_logits(tmp_path / "t").missing(["bell/0", "bell/more/1"]) == []
    code, _, err = run(*command, "--split", "valid")
    assert code == 2 and "has no clip in split 'valid'" in err
    (flat / "bell" / "0.flac").write_bytes((flat / "bell" / "0.wav").read_bytes())
    code, _, err = run(*command)
    assert code == 2 and "have the same id, bell/0" in err


def test_labels_in_another_order_are_named(tmp_path, clips, checkpoint, run):
    model = TwoLayerCNN(n_classes=4, n_frames=64)
    features, labels = {"mean": -4.0, "std": 4.0, "n_frames": 64}, ["_silence_", "dog", "bell", "horn"]
    path = save_checkpoint(tmp_path / "other.safetensors", model, labels=labels, features=features)
    command = ("teacher-logits", "--model", checkpoint, "--model", path, "--data", clips, "--out", tmp_path / "t")
    code, _, err = run(*command)
    assert code == 2 and "class 1 is 'bell' in" in err and "'dog' in" in err
    save_checkpoint(path, model, labels=LABELS, features=features, extra={"multi_label": True})
    code, _, err = run(*command)
    assert code == 2 and "one is for a single label per clip, the other for several" in err
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nobody"}, "'nobody' is not a model"),
        ({"--model": "ast-tiny224"}, "cannot classify audio"),
        ({"--data": "/nowhere"}, "/nowhere is not a folder"),
        ({"--batch-size": 0}, "must be at least 1"),
        ({"--shard-size": 0}, "must be at least 1"),
        ({"--split": "some"}, "split"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, clips, checkpoint, run, change, message):
    options = {"--model": checkpoint, "--data": clips, "--out": tmp_path / "t", **change}
    code, out, err = run("teacher-logits", *(word for pair in options.items() for word in pair))
    assert code == 2 and message in err and out == "" and not (tmp_path / "t").exists()


def test_kill_9_loses_no_more_than_a_shard(tmp_path, checkpoint, run):
    """A run killed between two writes goes on behind them, and ends with the logits of a run that was not."""
    clips, out_dir = write_clips(tmp_path / "clips", 120, seconds=0.2), tmp_path / "t"
    command = ["teacher-logits", "--model", checkpoint, "--data", clips, "--batch-size", 1, "--shard-size", 2]
    words = [sys.executable, "-m", "tome_audio.cli.main", *map(str, command), "--out", str(out_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(out_dir.glob("logits-*.npz"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = {path: path.stat().st_mtime_ns for path in out_dir.glob("logits-*.npz")}
    assert process.returncode == -signal.SIGKILL and 3 <= len(written) < 60
    code, out, _ = run(*command, "--out", out_dir)
    assert code == 0 and f"{2 * len(written)} of them by an earlier run" in " ".join(out.split())
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert run(*command, "--out", tmp_path / "whole")[0] == 0
    found, wanted = read_teacher_logits(out_dir), read_teacher_logits(tmp_path / "whole")
    ids = sorted(wanted.rows)
    assert len(ids) == 120 and sorted(found.rows) == ids
    # The killed process had one thread; more of them may add in another order.
    assert torch.allclose(found.lookup(ids).logits, wanted.lookup(ids).logits, atol=1e-5)
    assert not list(out_dir.glob(".*"))


def test_cnns_classify_and_cannot_be_merged(tmp_path, clips, cnn, run):
    path = clips / "bell" / "0.wav"
    code, out, _ = run("classify", path, "--model", cnn, "--json", "--top-k", 1)
    best = answer(cnn, path).argmax().item()
    assert code == 0 and json.loads(out)["labels"][0]["label"] == LABELS[best]
    code, out, err = run("classify", path, "--model", cnn, "--r", 4)
    assert code == 2 and "SpectrogramCNN holds no encoder of a known family" in err and out == ""


def test_kwt1_teaches(real_data, tmp_path, run):
    weights = real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz"
    command = ("teacher-logits", "--model", weights, "--data", real_data / "speech_commands", "--split", "valid")
    assert run(*command, "--out", tmp_path)[0] == 0
    assert read_teacher_logits(tmp_path).labels == load_kwt(weights).labels
