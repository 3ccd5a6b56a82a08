"""The closed set from the command line: trained on some songs, scored on them and on songs it has not heard."""

import json
import shutil

import pandas as pd
import pytest
import soundfile
from song_files import write_closed_set_world

from tome_audio.cli.loading import load_model
from tome_audio.models import AST

pytest.importorskip("accelerate")
pytest.importorskip("torchmetrics")
SMALL = """
features: {n_frames: 64}
model: {kind: ast, width: 32, depth: 2, n_heads: 2, fstride: 16, tstride: 16}
trainer: {epochs: 6, batch_size: 8, lr: 2.0e-3, cpu: true}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_closed_set_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def evaluated(out, split):
    return json.loads((out / f"evaluate-{split}" / "evaluate.json").read_text())


def test_it_learns_its_songs_and_is_scored_on_unseen_ones_beside(tmp_path, world, config, run):
    out = tmp_path / "out"
    code, text, err = run("sampleid", "closed-set", "--config", config, "--data", world, "--out", out, "--r", "0,2x")
    assert code == 0, err
    songs = pd.read_csv(out / "songs.csv")
    assert sorted(songs["split"]) == ["train"] * 6 + ["unseen"] * 3 and set(songs["original"]) == {"o0", "o1", "o2"}
    epochs = pd.read_csv(out / "epochs.csv")
    assert len(epochs) == 6 and {"accuracy", "unseen_accuracy"} <= set(epochs.columns)
    for split, n_songs in (("train", 6), ("unseen", 3)):
        found = evaluated(out, split)
        assert [row["r"] for row in found["rows"]] == ["0", "2x"] and found["rows"][1]["macs_cut"] > 1.5
        own = songs[songs["split"] == split]
        assert found["rows"][0]["accuracy"] == pytest.approx(100 * (own["original"] == own["answer"]).mean())
        assert found["rows"][0]["n_clips"] == n_songs and found["chance"] == pytest.approx(100 / 3)
    # What is saved is the last epoch, and it says what the trainer saw.
    assert evaluated(out, "train")["rows"][0]["accuracy"] == pytest.approx(100 * epochs["accuracy"].iloc[-1])
    assert evaluated(out, "train")["rows"][0]["accuracy"] > 60
    assert isinstance(load_model(str(out / "model.safetensors")).model, AST)
    assert (out / "error.png").stat().st_size > 5000 and (out / "error.svg").is_file() and "unseen" in text
    code, text, _ = run("results", out / "evaluate-train", out / "evaluate-unseen")
    assert code == 0 and "6 songs or 9 songs" not in text and "3 songs or 6 songs of split train and unseen" in text
    assert "| out-train | 0 |" in text and "| out-unseen | 2x |" in text


def test_a_run_that_is_resumed_goes_on_and_other_songs_are_refused(tmp_path, world, config, run):
    out, words = tmp_path / "out", ("sampleid", "closed-set", "--config", config, "--resume", "--trainer.epochs", 2)
    assert run(*words, "--data", world, "--out", out)[0] == 0
    first = (out / "model.safetensors").read_bytes()
    assert run(*words, "--data", world, "--out", out)[0] == 0 and (out / "model.safetensors").read_bytes() == first
    code, _, err = run(*words, "--data", world, "--out", out, "--unseen", 0.67)
    assert code == 2 and "unseen" in err


def write_sample100(folder):
    """Tables as Sample100 is distributed, with audio by track id in a folder of its own."""
    write_closed_set_world(folder / "made")
    (folder / "tables").mkdir()
    songs = [f"s{i}{j}" for i in range(3) for j in range(3)]
    tracks = ["track_id, artist, title, year, genre", *(f"{s}, Somebody, A, Title, 1990, Jazz" for s in songs)]
    tracks += [f"o{i}, Les, Day {i}, 1968, Jazz" for i in range(3)]
    head = "sample_id,original_track_id,sample_track_id,t_original,t_sample,n_repetitions,sample_type,interpolation"
    rows = [f"{head},comments", *(f"S{n:03d},o{s[1]},{s},0,0,1,riff,no, well, yes" for n, s in enumerate(songs))]
    for name, lines in (("tracks.csv", tracks), ("samples.csv", rows)):
        (folder / "tables" / name).write_bytes("\r".join(lines).encode("latin-1"))
    return folder / "tables", folder / "made" / "audio"


def test_sample100s_tables_with_a_folder_of_audio(tmp_path, config, run):
    tables, audio = write_sample100(tmp_path)
    words = ("sampleid", "closed-set", "--config", config, "--data", tables, "--trainer.epochs", 1, "--unseen", 0)
    code, _, err = run(*words, "--out", tmp_path / "none")
    assert code == 2 and "none of the 9 songs" in err and "--audio" in err
    (audio / "s22.flac").unlink()
    shutil.copy(audio / "s21.flac", audio / "cover.flac")
    soundfile.write(audio / "s12.flac", [0.0] * 20000, 16000)
    code, _, err = run(*words, "--out", tmp_path / "out", "--audio", audio)
    assert code == 1 and "1 of 9 songs have no audio: s22" in err and "s12.flac: is silent" in err
    assert "there is no figure on unseen songs" in err and not (tmp_path / "out" / "evaluate-unseen").exists()
    assert len(pd.read_csv(tmp_path / "out" / "songs.csv")) == 7
    assert load_model(str(tmp_path / "out" / "model.safetensors")).labels == (
        "Les - Day 0",
        "Les - Day 1",
        "Les - Day 2",
    )


@pytest.mark.parametrize("words", [("--hop", 0), ("--hop", 1.5), ("--batch_size", 0), ("--threads", 0)])
def test_options_out_of_range(words, tmp_path, run):
    code, _, err = run("sampleid", "closed-set", "--data", tmp_path, "--out", tmp_path / "out", *words)
    assert code == 2 and f"{words[0]} must be" in err and not (tmp_path / "out").exists()
