"""`tome-audio sampleid query` and `calibrate`."""

import json

import numpy as np
import pytest
from melodies import RATE, melody, save

from tome_audio.retrieval import read_calibration


@pytest.fixture
def song(tmp_path):
    samples = 0.15 * melody(900, 14.0)
    samples[5 * RATE : 9 * RATE] += melody(3, 4.0, semitones=2, start=4.0)
    return save(tmp_path / "song.wav", samples)


VOTES = ("--align.n_tracks", 0)  # single notes in tiny indexes: votes alone
TRIED = ("--transpositions", "[-3,0,2]", "--tempi", "[1,1.25]", *VOTES)


def answers(out):
    return [json.loads(line) for line in out.splitlines()]


def test_json_has_track_score_places_transposition_and_tempo(run, indexed_originals, song):
    code, out, err = run("sampleid", "query", song, "--index", indexed_originals, "--json", "--top", 2, *TRIED)
    assert (code, err) == (0, "")
    (found,) = answers(out)
    assert found["file"] == str(song) and found["seconds"] == 14 and found["sample_found"] is None
    assert {match["rank"] for match in found["matches"]} == {1, 2}
    first = found["matches"][0]
    assert (first["track"], first["semitones"], first["tempo_ratio"]) == ("b/3", 2, 1)
    assert first["score"] == found["best_score"] > found["matches"][-1]["score"]
    assert abs(first["song_start"] - 5) <= 1 and abs(first["song_end"] - 9) <= 1
    assert abs(first["original_start"] - 4) <= 1 and abs(first["original_end"] - 8) <= 1


def clock(seconds):
    return f"0:{seconds:04.1f}"


def test_the_table_has_the_same(run, indexed_originals, song):
    command = ("sampleid", "query", song, "--index", indexed_originals, "--top", 1, *TRIED)
    (match,) = answers(run(*command, "--json")[1])[0]["matches"]
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    row = [cell.strip() for cell in next(line for line in out.splitlines() if "b/3" in line).split("│")]
    assert row[2:8] == [
        "b/3",
        f"{match['score']:.3f}",
        f"{clock(match['song_start'])} - {clock(match['song_end'])}",
        f"{clock(match['original_start'])} - {clock(match['original_end'])}",
        "+2",
        "1x",
    ]


def test_what_was_not_tried_is_not_claimed(run, indexed_originals, song):
    _, out, _ = run("sampleid", "query", song, "--index", indexed_originals, "--json", *VOTES)
    assert answers(out)[0]["matches"][0]["semitones"] is None
    _, out, _ = run("sampleid", "query", song, "--index", indexed_originals, *VOTES)
    assert "semitones" not in out


@pytest.mark.parametrize(("name", "written"), [("song.png", ["song.png"]), ("deep/song", ["song.png", "song.svg"])])
def test_the_figure_is_drawn(run, indexed_originals, song, tmp_path, name, written):
    target = tmp_path / "figures" / name
    code, out, err = run("sampleid", "query", song, "--index", indexed_originals, "--figure", target, *TRIED)
    assert (code, err) == (0, "") and "written: " in out
    assert sorted(path.name for path in target.parent.iterdir()) == written
    assert all(path.stat().st_size > 5000 for path in target.parent.iterdir())


def test_several_songs_and_one_of_no_use(run, indexed_originals, song, tmp_path):
    silent = save(tmp_path / "silent.wav", np.zeros(RATE))
    code, out, err = run("sampleid", "query", song, silent, "--index", indexed_originals, "--json")
    assert code == 1 and [found["file"] for found in answers(out)] == [str(song)]
    assert err == f"tome-audio: error: {silent}: is silent from beginning to end; record or export it again\n"
    code, out, err = run("sampleid", "query", silent, "--index", indexed_originals)
    assert code == 2 and out == "" and err.count("\n") == 1


def test_a_threshold_from_songs_without_a_sample(run, indexed_originals, song, tmp_path):
    for n in range(4):
        save(tmp_path / "without" / f"{n}.wav", melody(500 + n, 8.0))
    options = ("--index", indexed_originals, *TRIED)
    command = ("sampleid", "calibrate", "--without", tmp_path / "without", *options)
    code, out, err = run(*command, "--with_sample", save(tmp_path / "with" / "0.wav", melody(1, 6.0)).parent)
    assert (code, err) == (0, "") and "100.0 % of 1 with one" in out
    found = read_calibration(indexed_originals)
    assert (found.n_without, found.false_positive_rate, found.n_references) == (4, 0, 5)
    _, out, _ = run("sampleid", "query", song, *options, "--json")
    assert answers(out)[0]["sample_found"] is True and {m["track"] for m in answers(out)[0]["matches"]} == {"b/3"}
    other = save(tmp_path / "other.wav", 0.02 * np.random.default_rng(0).standard_normal(6 * RATE))
    code, out, err = run("sampleid", "query", other, *options, "--json")
    assert code == 0 and answers(out)[0]["sample_found"] is False and answers(out)[0]["matches"] == []
    assert answers(out)[0]["best_score"] <= found.threshold
    code, out, _ = run("sampleid", "query", other, *options, "--figure", tmp_path / "none.png")
    assert code == 0 and "no sample found" in " ".join(out.split()) and (tmp_path / "none.png").is_file()
    code, out, err = run("sampleid", "query", song, "--index", indexed_originals, "--json", "--votes.reach", 1, *VOTES)
    assert answers(out)[0]["sample_found"] is None and "is for another reach and variants" in err


def test_a_threshold_for_a_much_smaller_index_is_warned_of(run, indexed_originals, song, tmp_path):
    save(tmp_path / "without" / "0.wav", melody(500, 8.0))
    assert run("sampleid", "calibrate", "--without", tmp_path / "without", "--index", indexed_originals)[0] == 0
    more = [save(tmp_path / f"m{n}.wav", melody(600 + n, 2.0)) for n in range(6)]
    assert run("sampleid", "add", *more, "--index", indexed_originals)[0] == 0
    code, _, err = run("sampleid", "query", song, "--index", indexed_originals)
    assert code == 0 and "was chosen with 5 tracks in it, now there are 11" in err


def test_the_model_may_have_moved(run, embedders, indexed_originals, song):
    assert run("sampleid", "query", song, "--index", indexed_originals)[0] == 0
    assert embedders[-1].facts == {"name": "melodies", "r": "0"}
    code, _, err = run("sampleid", "query", song, "--index", indexed_originals, "--model", "another")
    assert code == 2 and "name was melodies, now another" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", 0), "--top must be at least 1"),
        (("--figure", "x.gif"), "--figure x.gif: pictures end in .png or .svg"),
        (("other.wav", "--figure", "x.png"), "--figure draws one song"),
        (("--hop", 0), "hop and block_seconds must be positive"),
        (("--votes.n_windows", 0), "n_windows"),
        (("--search", "fast"), "fast"),
    ],
)
def test_bad_options(run, indexed_originals, song, words, message):
    code, out, err = run("sampleid", "query", song, *words, "--index", indexed_originals)
    assert code == 2 and out == "" and message in err


def test_no_index_and_an_empty_one(run, embedders, indexed_originals, song, tmp_path):
    code, _, err = run("sampleid", "query", song, "--index", tmp_path)
    assert code == 2 and "holds no index.json: make an index with `tome-audio sampleid index`" in err
    run("sampleid", "remove", "a/0", "a/2", "a/4", "b/1", "b/3", "--index", indexed_originals)
    code, _, err = run("sampleid", "query", song, "--index", indexed_originals)
    assert code == 2 and "holds no track yet" in err


@pytest.mark.parametrize(("words", "message"), [(("--rate", 1), "--rate must be in"), ((), "no audio")])
def test_calibrate_with_bad_options(run, indexed_originals, tmp_path, words, message):
    (tmp_path / "none").mkdir()
    code, _, err = run("sampleid", "calibrate", "--without", tmp_path / "none", "--index", indexed_originals, *words)
    assert code == 2 and message in err
