"""`tome-audio sampleid index`, `add` and `remove`."""

import json

import numpy as np
import pandas as pd
import pytest
from melodies import RATE, melody, save

from tome_audio.retrieval import SampleIndex


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ids(folder):
    return [facts.id for facts in SampleIndex.open(folder).tracks]


def test_every_file_of_a_folder_is_a_track(run, embedders, originals, tmp_path):
    code, out, err = run(
        "sampleid", "index", originals, "--model", "melodies", "--out", tmp_path / "deep" / "index", "--r", "[4,2|6,4]"
    )
    assert (code, err) == (0, "") and "holds 5 tracks: 0.02 h in 55 windows" in out and "earlier" not in out
    assert ids(tmp_path / "deep" / "index") == ["a/0", "a/2", "a/4", "b/1", "b/3"]
    found = json.loads((tmp_path / "deep" / "index" / "index.json").read_text())
    assert found["model"] == {"name": "melodies", "r": "[4,2|6,4]"} and found["settings"]["r"] == "[4,2|6,4]"


def test_a_second_run_embeds_nothing_and_another_r_or_hop_is_refused(run, embedders, originals, indexed_originals):
    before = snapshot(indexed_originals)
    command = ("sampleid", "index", originals, "--model", "melodies", "--out", indexed_originals)
    code, out, _ = run(*command)
    assert code == 0 and "5 of them by an earlier run" in out and embedders[-1].n_windows == 0
    for change, message in ((("--r", 8), "r was 0, now 8"), (("--hop", 0.5), "hop was 1.0, now 0.5")):
        code, out, err = run(*command, *change)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert snapshot(indexed_originals) == before


def test_files_of_no_use_are_named_listed_and_skipped(run, embedders, originals, tmp_path):
    save(originals / "silent.wav", np.zeros(2 * RATE))
    save(originals / "short.wav", melody(0, 0.3))
    (originals / "empty.mp3").write_bytes(b"")
    (originals / "text.ogg").write_text("this is not audio")
    cut = (originals / "a" / "0.flac").read_bytes()
    (originals / "cut.flac").write_bytes(cut[: len(cut) // 2])
    (originals / ".hidden.wav").write_bytes(b"")
    command = ("sampleid", "index", originals, "--model", "melodies", "--out", tmp_path / "index")
    code, out, err = run(*command)
    assert code == 1 and "holds 5 tracks" in out and "5 files could not be used" in out and err.count("\n") == 5
    table = pd.read_csv(tmp_path / "index" / "problems.csv", index_col="id")
    assert dict(table["kind"]) == {
        "cut": "damaged", "empty": "empty", "short": "too short", "silent": "silent", "text": "damaged",
    }  # fmt: skip
    for name in ("silent.wav", "short.wav", "empty.mp3", "text.ogg", "cut.flac"):
        assert f"tome-audio: error: {originals / name}: " in err
        assert table["message"].str.startswith(str(originals / name)).sum() == 1
        (originals / name).unlink()
    assert run(*command)[0] == 0 and not (tmp_path / "index" / "problems.csv").exists()


def test_a_track_added_is_found_and_one_removed_is_gone(run, embedders, indexed_originals, tmp_path):
    new = save(tmp_path / "new.song.flac", melody(77, 9.0))
    song = save(tmp_path / "song.wav", melody(77, 5.0, start=2.0))

    def best():
        code, out, err = run("sampleid", "query", song, "--index", indexed_originals, "--json", "--align.n_tracks", 0)
        assert (code, err) == (0, "")
        return json.loads(out)["matches"][0]["track"]

    assert best() != "new.song"
    code, out, err = run("sampleid", "add", new, "--index", indexed_originals)
    assert (code, err) == (0, "") and "1 tracks added; " in out and "holds 6 tracks" in out and best() == "new.song"
    code, out, _ = run("sampleid", "add", new, "--index", indexed_originals)
    assert code == 0 and "0 tracks added, 1 were there" in out
    code, out, _ = run("sampleid", "add", new, "--index", indexed_originals, "--id", "Other name")
    assert code == 0 and "holds 7 tracks" in out
    code, out, err = run("sampleid", "remove", "new.song", "Other name", "--index", indexed_originals)
    assert (code, err) == (0, "") and "2 tracks removed; " in out and best() not in ("new.song", "Other name")
    code, out, err = run("sampleid", "remove", "new.song", "a/0", "--index", indexed_originals)
    assert code == 2 and "has no track 'new.song'; nothing was removed" in err and "a/0" in ids(indexed_originals)


def test_adding_names_what_cannot_be_used(run, embedders, indexed_originals, tmp_path):
    good, bad = save(tmp_path / "good.wav", melody(5, 3.0)), save(tmp_path / "bad.wav", np.zeros(9))
    code, out, err = run("sampleid", "add", good, bad, "--index", indexed_originals)
    assert code == 1 and "1 tracks added" in out and f"{bad}: is 0.00112 s long" in err
    other = save(tmp_path / "other" / "good.wav", melody(6, 3.0))
    code, out, err = run("sampleid", "add", other, "--index", indexed_originals)
    assert code == 2 and out == "" and "holds another file as 'good'" in err and "nothing was added" in err
    code, _, err = run("sampleid", "add", good, other, "--index", indexed_originals)
    assert code == 2 and "have the same id, good" in err
    code, _, err = run("sampleid", "add", good, bad, "--index", indexed_originals, "--id", "x")
    assert code == 2 and "--id names one track" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "nowhere"}, "nowhere is not a folder"),
        ({"--batch-size": 0}, "must be at least 1"),
        ({"--threads": 0}, "must be at least 1"),
        ({"--r": "x"}, "is not understood"),
        ({"--hop": 0.001}, "hop must be at least a frame"),
    ],
)
def test_bad_options(run, embedders, originals, tmp_path, change, message):
    options = {"--model": "melodies", "--out": tmp_path / "index", **change}
    data = options.pop("data", originals)
    code, out, err = run("sampleid", "index", data, *(word for pair in options.items() for word in pair))
    assert code == 2 and message in err and out == "" and err.count("\n") == 1


def test_a_folder_without_audio_and_one_with_two_files_of_a_name(run, embedders, originals, tmp_path):
    (tmp_path / "none").mkdir()
    command = ("--model", "melodies", "--out", tmp_path / "index")
    code, _, err = run("sampleid", "index", tmp_path / "none", *command)
    assert code == 2 and "no audio (.flac, .mp3, .ogg, .wav)" in err
    (originals / "a" / "0.wav").write_bytes(b"")
    code, _, err = run("sampleid", "index", originals, *command)
    assert code == 2 and "have the same id, a/0" in err and not (tmp_path / "index").exists()
    silent = save(tmp_path / "silent" / "a.wav", np.zeros(RATE)).parent
    code, out, err = run("sampleid", "index", silent, *command)
    assert code == 2 and out == "" and "none of 1 files" in err and err.count("\n") == 2
