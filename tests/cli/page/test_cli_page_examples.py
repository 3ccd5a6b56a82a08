import numpy as np
import pytest
import soundfile

from tome_audio.cli.page.examples import copy_examples, find_examples


@pytest.fixture
def folder(tmp_path):
    """Three classes of three clips, one clip at the top, and what is no clip."""
    for name in ("bell", "horn", "siren"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.wav").write_bytes(f"{name}{number}".encode())
    (tmp_path / "alone.FLAC").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.wav").mkdir()
    return tmp_path


def test_names_say_folder_and_file(folder):
    found = find_examples(folder)
    assert list(found) == ["alone", *(f"{name} {number}" for name in ("bell", "horn", "siren") for number in range(3))]
    assert found["bell 1"] == folder / "bell" / "1.wav"


def test_of_many_some_of_each_folder(folder):
    assert list(find_examples(folder, most=4)) == ["alone", "bell 0", "horn 0", "siren 0"]


def test_copies_are_clips_that_every_browser_plays(tmp_path):
    root, noise = tmp_path / "clips", np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    (root / "bell").mkdir(parents=True)
    soundfile.write(root / "bell" / "a.flac", noise, 8000)
    (root / "bell" / "b.wav").write_text("this is not audio")
    soundfile.write(root / "long.wav", np.zeros(50000), 16000)
    copies, errors = copy_examples(find_examples(root), tmp_path / "copies", max_seconds=2.0)
    assert list(copies) == ["bell a"] and copies["bell a"].name == "bell a.wav"
    assert tmp_path / "copies" in copies["bell a"].parents
    facts = soundfile.info(copies["bell a"])
    assert (facts.format, facts.samplerate, facts.frames, facts.channels) == ("WAV", 16000, 16000, 1)
    assert [str(error).split(":")[0] for error in errors] == ["b.wav", "long.wav"]


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        find_examples(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no audio files"):
        find_examples(tmp_path)
