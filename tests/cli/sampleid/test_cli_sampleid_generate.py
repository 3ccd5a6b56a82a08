"""Worlds from the command line: drawn, of clips of a corpus, and of any folder."""

import json

import numpy as np
import pytest
import soundfile

from tome_audio.data.corpora.imitations import imitate
from tome_audio.data.sample_tables import read_sample_table

pytest.importorskip("python_stretch")

FEW = ("--seconds", 6, "--material_seconds", 4, "--train.n_material", 1)
FEW += tuple(f"--valid.{name}=0" for name in ("n_songs", "n_without", "n_originals", "n_distractors", "n_material"))
FEW += ("--test.n_songs", 2, "--test.n_without", 1, "--test.n_originals", 2, "--test.n_distractors", 1)


def test_a_world_is_drawn_and_a_second_run_finds_it_done(tmp_path, run):
    words = ("sampleid", "generate", tmp_path, "--seed", 3, *FEW, "--flip.level_db", "[0,3]", "--flip.loops", 2)
    code, text, err = run(*words)
    assert (
        code == 0 and "1 distractor, 2 originals, 3 songs; 2 pairs of song and original; 1 songs with stems" in text
    ), err
    table = read_sample_table(tmp_path)
    assert all(track.path.is_file() for track in table.tracks.values())
    assert table.occurrences and all(0 <= row.level_db <= 3 for row in table.occurrences)
    facts = json.loads((tmp_path / "world.json").read_text())
    assert facts["seed"] == 3 and facts["flip"]["loops"] == 2 and facts["parts"]["test"]["n_songs"] == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    assert run(*words)[:2] == (0, text)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    code, _, err = run(*words, "--seconds", 7)
    assert code == 2 and "made otherwise (seconds changed)" in err


def test_shared_originals_belong_to_every_part(tmp_path, run):
    words = (*FEW, "--train.n_material", 0, "--train.n_songs", 4, "--shared-originals", 2)
    code, _, err = run("sampleid", "generate", tmp_path, *words)
    assert code == 0, err
    table = read_sample_table(tmp_path)
    assert [len(table.songs(part)) for part in ("train", "test")] == [4, 3]
    sampled = {part: {table.originals_of(song.id) for song in table.songs(part)} - {()} for part in ("train", "test")}
    assert sampled["train"] == sampled["test"] == {("shared-original-0000",), ("shared-original-0001",)}
    assert [track.id for track in table.references("train")] == ["shared-original-0000", "shared-original-0001"]


def test_clips_of_a_corpus_are_overlaid_as_they_are(tmp_path, run):
    corpus = imitate("esc50", tmp_path / "corpus")
    alone = ("--flip.semitones", "[0,0]", "--flip.tempo_ratio", "[1,1]", "--flip.equaliser_db", 0, "--flip.loops", 1)
    words = ("--material", corpus, "--corpus.name", "esc50", "--corpus.fold", 5, "--train.n_material", 0)
    code, _, err = run("sampleid", "generate", tmp_path / "out", *FEW, *words, *alone, "--flip.level_db", "[-6,0]")
    assert code == 0, err
    table = read_sample_table(tmp_path / "out")
    assert all(track.title.startswith("5-") for track in table.references("test"))
    assert all(row.semitones == 0 and row.tempo_ratio == 1 and row.level_db <= 0 for row in table.occurrences)
    code, _, err = run("sampleid", "generate", tmp_path / "more", *FEW, *words, "--test.n_distractors", 1000)
    assert code == 2 and "1000 distractors are wanted" in err and not (tmp_path / "more").exists()


def test_a_folder_of_clips_is_used_without_those_that_cannot_be(tmp_path, run):
    clips = tmp_path / "clips" / "test"
    clips.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        soundfile.write(clips / f"{number}.wav", rng.uniform(-0.2, 0.2, 3 * 16000), 16000)
    (clips / "broken.wav").write_bytes(b"no audio")
    words = ("--material", tmp_path / "clips", "--train.n_material", 0)
    code, text, err = run("sampleid", "generate", tmp_path / "out", *FEW, *words)
    assert code == 1 and "broken.wav" in err and "2 originals" in text
    assert len(read_sample_table(tmp_path / "out").tracks) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--flip.semitones", "[3,-3]"), "flip.semitones must be a range"),
        (("--test.n_originals", 0), "part test has songs and nothing to sample"),
        (("--seconds", 1), "seconds must be between 4 and 1800"),
        (("--processes", 0), "n_processes must be at least 1"),
        (("--material", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(tmp_path, run, words, said):
    code, _, err = run("sampleid", "generate", tmp_path / "out", *FEW, *words)
    assert code == 2 and said in err and not (tmp_path / "out").exists()
