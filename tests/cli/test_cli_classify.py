"""Any file a person may give: a right answer or one clear error, never a traceback."""

import json

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tome_audio.models import AST

RNG = np.random.default_rng(0)
NOISE = RNG.uniform(-0.5, 0.5, 16000)


def write(folder, name, samples=NOISE, rate=16000, **kwargs):
    path = folder / name
    soundfile.write(path, samples, rate, **kwargs)
    return path


READABLE = {
    "flac": lambda d: write(d, "a.flac"),
    "ogg": lambda d: write(d, "a.ogg"),
    "mp3": lambda d: write(d, "a.mp3"),
    "8-bit": lambda d: write(d, "a.wav", subtype="PCM_U8"),
    "24-bit": lambda d: write(d, "a.wav", subtype="PCM_24"),
    "float": lambda d: write(d, "a.wav", subtype="FLOAT"),
    "stereo": lambda d: write(d, "a.wav", np.stack([NOISE, -0.5 * NOISE], axis=1)),
    "8 kHz": lambda d: write(d, "a.wav", rate=8000),
    "96 kHz": lambda d: write(d, "a.wav", rate=96000),
    "wrong extension": lambda d: write(d, "a.flac").rename(d / "a.mp3"),
    "a few samples": lambda d: write(d, "a.wav", NOISE[:5]),
    "ten minutes": lambda d: write(d, "a.flac", np.tile(NOISE, 600)),
}


def cut(path, keep):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def text(path):
    path.write_text("this is not audio\n")
    return path


def empty(path):
    path.touch()
    return path


BROKEN = {
    "missing": (lambda d: d / "none.wav", "no such file|does not exist"),
    "a folder": (lambda d: d, "folder|directory"),
    "empty": (lambda d: empty(d / "a.wav"), "empty"),
    "text": (lambda d: text(d / "a.wav"), "not|cannot"),
    "no samples": (lambda d: write(d, "a.wav", NOISE[:0]), "no samples|no audio"),
    "truncated wav": (lambda d: cut(write(d, "a.wav"), 0.6), "cut|truncated|incomplete"),
    "truncated flac": (lambda d: cut(write(d, "a.flac"), 0.6), "cut|truncated|incomplete|damaged"),
    "header only": (lambda d: cut(write(d, "a.ogg"), 0.001), "not|cannot|empty"),
    "nan": (lambda d: write(d, "a.wav", np.full(8000, np.nan), subtype="FLOAT"), "NaN|finite"),
    "infinite": (lambda d: write(d, "a.wav", np.full(8000, np.inf), subtype="FLOAT"), "finite"),
}


@pytest.mark.parametrize("kind", READABLE)
def test_readable_files_get_labels(kind, tmp_path, checkpoint, run):
    path = READABLE[kind](tmp_path)
    code, out, err = run("classify", path, "--model", checkpoint, "--r", 2, "--json", "--top-k", 2)
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["file"] == str(path) and len(answer["labels"]) == 2
    scores = [label["score"] for label in answer["labels"]]
    assert scores == sorted(scores, reverse=True) and 0 < scores[1] <= scores[0] <= 1
    assert {label["label"] for label in answer["labels"]} <= {"_silence_", "bell", "dog", "horn"}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_get_one_sentence(kind, tmp_path, checkpoint, run):
    import re

    make, message = BROKEN[kind]
    path = make(tmp_path)
    code, out, err = run("classify", path, "--model", checkpoint)
    assert code == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("tome-audio: error: ") and str(path) in err
    assert re.search(message, err), err


def test_one_broken_file_does_not_take_the_others_down(tmp_path, checkpoint, run):
    good, bad = write(tmp_path, "good.wav"), text(tmp_path / "bad.wav")
    code, out, err = run("classify", good, bad, "--model", checkpoint, "--json")
    assert code == 1 and json.loads(out)["file"] == str(good) and str(bad) in err


def test_silence_is_answered_with_a_warning(tmp_path, checkpoint, run):
    path = write(tmp_path, "a.wav", np.zeros(16000))
    code, out, err = run("classify", path, "--model", checkpoint, "--json")
    assert code == 0 and json.loads(out)["labels"] and "every sample is zero" in err


def test_the_table_names_file_and_labels(tmp_path, checkpoint, run):
    code, out, _ = run("classify", write(tmp_path, "a.wav"), "--model", checkpoint, "--top-k", 3)
    assert code == 0 and "a.wav" in out.replace("\n", "") and sum(out.count(n) for n in ("bell", "dog", "horn")) >= 2


@given(st.binary(max_size=400), st.sampled_from(["wav", "flac", "ogg", "mp3", "txt"]), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(tmp_path, checkpoint, run, content, extension, with_header):
    path = tmp_path / f"noise.{extension}"
    header = {"wav": b"RIFF\x00\x01\x00\x00WAVEfmt ", "flac": b"fLaC", "ogg": b"OggS", "mp3": b"ID3\x04\x00\x00"}
    path.write_bytes((header.get(extension, b"") if with_header else b"") + content)
    code, out, err = run("classify", path, "--model", checkpoint, "--json")
    assert (code == 0 and json.loads(out)["labels"]) or (code == 2 and err.startswith("tome-audio: error: "))


@given(keep=st.floats(0, 0.999), kind=st.sampled_from(["wav", "flac", "ogg", "mp3"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_anywhere(tmp_path, checkpoint, run, keep, kind):
    path = cut(write(tmp_path, f"cut.{kind}"), keep)
    code, out, err = run("classify", path, "--model", checkpoint, "--json")
    # An mp3 without a length in its header cannot tell that it was cut: its prefix is then the right answer.
    assert (code == 2 and str(path) in err) or (code == 0 and kind == "mp3" and json.loads(out)["labels"])


def test_real_clips_with_kwt1(real_data, run):
    clips = sorted((real_data / "speech_commands" / "test_v0.02" / "yes").glob("*.flac"))[:5]
    weights = real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz"
    code, out, _ = run("classify", *clips, "--model", weights, "--r", "45,20,12,6", "--json", "--top-k", 1)
    assert code == 0
    answers = [json.loads(line)["labels"][0]["label"] for line in out.splitlines()]
    assert len(answers) == 5 and answers.count("yes") >= 4


def test_an_official_checkpoint_with_a_label_table(tmp_path, run):
    model = AST("tiny224", n_classes=35, n_frames=128)
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, tmp_path / "speech_10_10_0.9.pth")
    table = tmp_path / "labels.csv"
    table.write_text("index,mid,display_name\n" + "".join(f'{i},/m/{i},"word, {i}"\n' for i in range(35)))
    command = ("classify", write(tmp_path, "a.wav"), "--model", tmp_path / "speech_10_10_0.9.pth", "--json")
    code, out, _ = run(*command, "--labels", table, "--r", 8)
    assert code == 0 and json.loads(out)["labels"][0]["label"].startswith("word, ")
    code, _, err = run(*command)
    assert code == 2 and "cannot classify audio" in err
    table.write_text("index,name\n0,bell\n")
    code, _, err = run(*command, "--labels", table)
    assert code == 2 and "is not a label CSV with columns index, mid, display_name" in err
