from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from file_server import serving

from tome_audio.data.clips import DataError
from tome_audio.data.corpora import fsdd
from tome_audio.data.corpora.fsdd import download_fsdd, prepare_fsdd


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "recordings").mkdir()
    for digit in range(3):
        for speaker in ("ann", "bob", "cyd"):
            for i in range(20):
                (tmp_path / "recordings" / f"{digit}_{speaker}_{i}.wav").touch()
    return tmp_path


def test_upstreams_split(root):
    manifest = prepare_fsdd(root)
    assert Counter(e.split for e in manifest.entries) == {"train": 135, "test": 45}
    assert all((int(e.id.split("_")[-1]) < 5) == (e.split == "test") for e in manifest.entries)
    assert manifest.labels == ("0", "1", "2")


def test_whole_speakers_apart(root):
    manifest = prepare_fsdd(root, test_speakers=["bob"], valid_speakers=["cyd"])
    assert {(e.speaker, e.split) for e in manifest.entries} == {("ann", "train"), ("bob", "test"), ("cyd", "valid")}
    assert {e.split for e in prepare_fsdd(root, test_speakers=["bob"]).entries} == {"train", "test"}


def test_a_part_of_train_as_valid(root):
    manifest = prepare_fsdd(root, valid_part=0.2)
    assert Counter((e.split, e.labels[0]) for e in manifest.entries if e.split == "valid") == {
        ("valid", digit): 9 for digit in "012"
    }
    assert manifest.select("test") == prepare_fsdd(root).select("test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_speakers": ["dan"]}, "no recordings of dan: the speakers are ann, bob, cyd"),
        ({"valid_speakers": ["ann"]}, "give test_speakers, and valid_speakers that are others"),
        ({"test_speakers": ["ann"], "valid_speakers": ["ann"]}, "valid_speakers that are others"),
        ({"test_speakers": ["ann", "bob", "cyd"]}, "leave somebody to train on"),
        ({"valid_part": 2.0}, r"needs a part in \(0, 1\)"),
    ],
)
def test_settings_that_exclude_each_other_are_named(root, settings, message):
    with pytest.raises(DataError, match=message):
        prepare_fsdd(root, **settings)


def test_another_layout_is_refused(tmp_path):
    for name in ("a/1.wav", "b/1.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="no recordings named"):
        prepare_fsdd(tmp_path)


def test_download(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"free-spoken-digit-dataset-{fsdd.RELEASE}/recordings/0_ann_0.wav", "")
    with serving({"fsdd.zip": buffer.getvalue()}) as server:
        monkeypatch.setattr(fsdd, "URL", server.url + "fsdd.zip")
        assert (download_fsdd(tmp_path) / "recordings/0_ann_0.wav").is_file()


def test_the_real_recordings(real_data):
    manifest = prepare_fsdd(real_data / "fsdd", valid_part=0.1)
    assert Counter(e.split for e in manifest.entries) == {"train": 2430, "valid": 270, "test": 300}
    apart = prepare_fsdd(real_data / "fsdd", test_speakers=["george"], valid_speakers=["jackson"])
    assert Counter(e.split for e in apart.entries) == {"train": 2000, "valid": 500, "test": 500}
