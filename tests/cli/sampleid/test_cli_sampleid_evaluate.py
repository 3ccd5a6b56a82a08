"""Retrieval scored from the command line: figures, files, an index that is used again, bad files, cost."""

import json

import pandas as pd
import pytest
import soundfile
import torch
from melodies import MelodyEmbedder
from song_files import write_melody_world

from tome_audio.audio.vqt import VqtFrontEnd
from tome_audio.cli.sampleid import evaluate as command
from tome_audio.cli.sampleid.train import WINDOWS
from tome_audio.data.sample_tables import read_sample_table, write_sample_table
from tome_audio.models import SongEncoder, save_checkpoint

pytest.importorskip("torchmetrics")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_melody_world(tmp_path_factory.mktemp("world"), parts=("test", "valid"))


@pytest.fixture
def heard(monkeypatch):
    """Let melodies be known again by the embedder of the tests; return those that were loaded."""
    loaded = []

    def load(name, r, *, transpositions, tempi):
        loaded.append(MelodyEmbedder(name, tuple((int(s), t) for t in tempi for s in transpositions)))
        return loaded[-1]

    monkeypatch.setattr(command, "load_song_embedder", load)
    return loaded


WORDS = ("sampleid", "evaluate", "--model", "melodies", "--transpositions", "[0,2]", "--align.n_tracks", 0)


def test_songs_are_found_among_distractors(tmp_path, world, heard, run):
    out = tmp_path / "out"
    code, text, err = run(*WORDS, "--data", world, "--out", out, "--threshold_part", "valid")
    assert code == 0, err
    found = json.loads((out / "evaluate.json").read_text())
    (row,) = found["rows"]
    assert (row["n_clips"], row["n_without"], row["n_references"], row["n_left_out"]) == (2, 1, 4, 0)
    assert row["mean_ap"] == 1.0 and row["hit_rate_1"] == 1.0 and row["median_rank"] == 0.25
    assert row["auroc"] == 1.0 and row["localised"] == 1.0 and row["n_hits"] == 2
    assert row["found"] == 1.0 and row["false_alarms"] == 0.0 and "macs_cut" not in row
    assert row["index_seconds"] > 0 and found["options"]["transpositions"] == [0.0, 2.0]
    matches = pd.read_csv(out / "matches.csv")
    assert list(matches.groupby("song").size()) == [4, 4, 4]  # every reference: there are fewer than ten
    top = matches[(matches["place"] == 1) & (matches["song"] != "test-clean")].set_index("song")
    assert top["sampled"].all() and top.loc["test-s1", "semitones"] == 2.0
    assert (top["song_start"] - 2.0).abs().max() <= 1.0 and (top["original_start"] - 4.0).abs().max() <= 1.0
    songs = pd.read_csv(out / "songs.csv").set_index("song")
    assert songs.loc[["test-s0", "test-s1"], "has_sample"].all() and not songs.loc["test-clean", "has_sample"]
    assert songs.loc["test-clean", "best_score"] < row["threshold"] < songs["best_score"].max()
    calibration = json.loads((out / "index-test-unpatched" / "calibration.json").read_text())
    assert calibration["threshold"] == pytest.approx(row["threshold"]) and calibration["n_without"] == 1
    assert "2 songs with a sample, 1 without, 4 references" in text
    code, text, _ = run("results", out)
    assert code == 0 and "2 songs with a sample, 1 without, and 4 references of split test" in text
    assert "| mAP | HR@1 | HR@3 | HR@10 | median rank | AUROC |" in text and "windows/s" not in text


def test_an_index_is_used_again_and_its_time_is_kept(tmp_path, world, heard, run):
    out = tmp_path / "out"
    for _ in range(2):
        assert run(*WORDS, "--data", world, "--out", out)[0] == 0
    first, second = heard
    assert first.n_windows > 0 and second.n_windows == 0  # neither references nor songs
    rows = [json.loads((out / "evaluate.json").read_text())["rows"][0]]
    assert rows[0]["index_seconds"] > 0 and rows[0]["mean_ap"] == 1.0
    code, _, err = run("sampleid", "evaluate", "--model", "others", "--data", world, "--out", out)
    assert code == 2 and "another model" in err


def test_what_an_earlier_run_indexed_is_not_ranked(tmp_path, world, heard, run):
    out = tmp_path / "out"
    assert run(*WORDS, "--data", world, "--out", out)[0] == 0
    table, less = read_sample_table(world), tmp_path / "less"
    tracks = {name: track for name, track in table.tracks.items() if name != "test-d1"}
    write_sample_table(type(table)(tracks, table.occurrences), less)
    assert run(*WORDS, "--data", less, "--out", out)[0] == 0
    assert json.loads((out / "evaluate.json").read_text())["rows"][0]["n_references"] == 3


def test_bad_and_missing_files_are_named_and_the_rest_is_scored(tmp_path, heard, run):
    world = write_melody_world(tmp_path / "world")
    audio = world / "audio" / "test"
    soundfile.write(audio / "test-clean.flac", [0.0] * 16000, 8000)
    (audio / "test-d1.flac").write_bytes(b"no audio")
    (audio / "test-o1.flac").unlink()
    code, _, err = run(*WORDS, "--data", world, "--out", tmp_path / "out", "--audio", audio)
    assert code == 1 and "1 tracks of part test have no audio: test-o1" in err
    assert "test-clean.flac" in err and "test-d1.flac" in err
    found = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    assert found["left_out"] == ["test-s1"] and len(found["problems"]) == 2
    (row,) = found["rows"]
    assert (row["n_clips"], row["n_without"], row["n_references"]) == (1, 0, 2) and "auroc" not in row
    code, _, err = run(*WORDS, "--data", world, "--out", tmp_path / "out", "--threshold_part", "test")
    assert code == 2 and "needs songs without a sample" in err
    code, _, err = run(*WORDS, "--data", world, "--out", tmp_path / "out", "--part", "valid")
    assert code == 2 and "part valid has 0 songs" in err


def test_a_killed_run_asks_the_songs_that_are_left_and_writes_what_one_that_was_not_does(tmp_path, world, heard, run):
    words = (*WORDS, "--data", world)
    assert run(*words, "--out", tmp_path / "whole")[0] == 0
    asked = []

    class Killed(MelodyEmbedder):
        def variants(self, windows):  # of songs alone
            asked.append(len(windows))
            if len(asked) > 1:
                raise KeyboardInterrupt
            return super().variants(windows)

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            command, "load_song_embedder", lambda *_, tempi, transpositions: Killed("melodies", ((0, 1.0), (2, 1.0)))
        )
        assert run(*words, "--out", out, "--batch_size", 64)[0] == 130
    kept = out / "index-test-unpatched" / "answers.jsonl"
    assert len(kept.read_text().splitlines()) == 2 and not (out / "evaluate.csv").exists()
    with kept.open("a") as file:
        file.write('{"song": "test-s1", "dig')  # the kill came while it wrote
    assert run(*words, "--out", out)[0] == 0
    for name in ("matches.csv", "songs.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(kept.read_text().splitlines()) == 4
    before = heard[-1].n_windows
    assert run(*words, "--out", out, "--votes.n_windows", 2)[0] == 0
    assert heard[-1].n_windows > before / 2 and len(kept.read_text().splitlines()) == 4  # asked again, all of them


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    front_end = VqtFrontEnd()
    n_frames = round(2.0 * front_end.frames_per_second)
    size = {"width": 32, "depth": 4, "n_heads": 2, "patch": [32, 4], "fstride": 32, "tstride": 4, "pool": "avg"}
    model = SongEncoder({"variant": None, "n_mels": front_end.n_bins, "n_frames": n_frames, **size}, 16)
    windows = {"window": 2.0, "hop": 1.0, "front_end": front_end.facts()}
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    return save_checkpoint(path, model, extra={WINDOWS: windows})


def test_every_r_has_its_own_index_and_its_cost(tmp_path, encoder, run):
    pytest.importorskip("librosa")
    world = write_melody_world(tmp_path / "world", seconds=3)
    out = tmp_path / "out"
    words = ("sampleid", "evaluate", "--model", encoder, "--data", world, "--out", out, "--r", "0,2x")
    code, text, err = run(*words, "--batch_size", 8)
    assert code == 0, err
    rows = pd.read_csv(out / "evaluate.csv", dtype={"r": str})
    assert list(rows["r"]) == ["0", "2x"] and rows["macs_cut"].round(2)[0] == 1.0 and rows["macs_cut"][1] > 1.7
    assert (rows["speedup_low"] <= rows["speedup"]).all() and (rows["windows_per_second"] > 0).all()
    assert rows["index_time"][0] == 1.0 and rows["index_time"][1] > 0 and rows["mean_ap"].between(0.25, 1).all()
    assert (out / "index-test-0" / "index.json").is_file() and (out / "index-test-2x" / "index.json").is_file()
    matches = pd.read_csv(out / "matches.csv", dtype={"r": str})
    assert set(matches["r"]) == {"0", "2x"} and "semitones" not in matches.columns  # none were tried
    code, text, _ = run("results", out, "--append", tmp_path / "RESULTS.md")
    assert code == 0 and "| MACs cut | speed-up | index time |" in text and "| 2x |" in text
    song = world / "audio" / "test" / "test-s0.flac"  # the indices are as good as those of `sampleid index`
    code, text, err = run("sampleid", "query", song, "--index", out / "index-test-2x", "--json")
    assert code == 0 and len({row["track"] for row in json.loads(text)["matches"]}) == 4, err


@pytest.mark.parametrize("words", [("--batch_size", 0), ("--n_heard", 0), ("--false_alarms", 1.0), ("--threads", 0)])
def test_options_out_of_range(words, tmp_path, world, heard, run):
    code, _, err = run(*WORDS, "--data", world, "--out", tmp_path / "out", *words)
    assert code == 2 and f"{words[0]} must be" in err and not (tmp_path / "out").exists()
