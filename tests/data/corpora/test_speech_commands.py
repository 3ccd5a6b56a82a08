from __future__ import annotations

import io
import math
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clip_files import RATE, write_clip
from file_server import serving

from tome_audio.audio import read_audio
from tome_audio.data.clips import DataError
from tome_audio.data.corpora import speech_commands
from tome_audio.data.corpora.speech_commands import TEN_WORDS, download_speech_commands, prepare_speech_commands
from tome_audio.data.download import DownloadError, file_sha256
from tome_audio.data.manifest_check import check_manifest

V1_WORDS = (*TEN_WORDS, *(f"word{i:02}" for i in range(20)))


def make_corpus(root: Path, words=V1_WORDS, per_word: int = 10, noise: bool = True) -> Path:
    """Every word by `per_word` speakers; the last two are in the validation and the testing list."""
    lists = {"validation": [], "testing": []}
    for word in words:
        for i in range(per_word):
            name = f"{word}/{i:08x}_nohash_0"
            (root / word).mkdir(parents=True, exist_ok=True)
            (root / f"{name}.wav").touch()
            if i >= per_word - 2:
                lists["validation" if i == per_word - 2 else "testing"].append(f"{name}.wav")
    for name, lines in lists.items():
        (root / f"{name}_list.txt").write_text("\n".join(lines) + "\n")
    if noise:
        for i in range(2):
            write_clip(root / "_background_noise_" / f"noise{i}.wav", 20.0, seed=i)
        (root / "_background_noise_" / "README.md").touch()
    return root


def splits(manifest, label=None) -> Counter:
    return Counter(e.split for e in manifest.entries if label in (None, e.labels[0]))


def test_every_word_with_the_official_lists(tmp_path):
    manifest = prepare_speech_commands(make_corpus(tmp_path), 30)
    assert len(manifest.labels) == 30 and manifest.labels == tuple(sorted(V1_WORDS))
    assert splits(manifest) == {"train": 240, "valid": 30, "test": 30}
    found = {e.id: e for e in manifest.entries}
    assert found["yes/00000009_nohash_0"].split == "test" and found["yes/00000008_nohash_0"].split == "valid"
    assert found["no/00000003_nohash_0"].speaker == "00000003" and found["no/00000003_nohash_0"].labels == ("no",)


def test_a_clip_in_neither_list_goes_with_its_speaker(tmp_path):
    make_corpus(tmp_path)
    (tmp_path / "yes" / "00000009_nohash_7.wav").touch()
    found = {e.id: e.split for e in prepare_speech_commands(tmp_path).entries}
    assert found["yes/00000009_nohash_7"] == "test"


def test_lists_hold_for_other_suffixes(tmp_path):
    make_corpus(tmp_path)
    for path in tmp_path.glob("*/*_nohash_*.wav"):
        path.rename(path.with_suffix(".flac"))
    assert splits(prepare_speech_commands(tmp_path, 30)) == {"train": 240, "valid": 30, "test": 30}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    root = make_corpus(tmp_path_factory.mktemp("v1"))
    return root, prepare_speech_commands(root, 12)


def test_twelve_labels_have_a_tenth_of_unknown_and_of_silence_per_split(twelve):
    _, manifest = twelve
    assert set(manifest.labels) == {*TEN_WORDS, "_unknown_", "_silence_"}
    expected = {split: math.ceil(0.1 * n) for split, n in {"train": 80, "valid": 10, "test": 10}.items()}
    assert splits(manifest, "_unknown_") == splits(manifest, "_silence_") == expected
    unknown = [e for e in manifest.entries if e.labels == ("_unknown_",)]
    assert not {e.path.parent.name for e in unknown} & set(TEN_WORDS)
    official = {e.id: e.split for e in prepare_speech_commands(twelve[0], 30).entries}
    assert all(official[e.id] == e.split for e in unknown)


def test_silence_is_a_second_of_a_stretch_of_a_recording_that_is_its_splits_own(twelve):
    root, manifest = twelve
    noises = {path.stem: read_audio(path).numpy() for path in (root / "_background_noise_").glob("*.wav")}
    parts = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
    for entry in (e for e in manifest.entries if e.labels == ("_silence_",)):
        clip, info = read_audio(entry.path).numpy(), soundfile.info(entry.path)
        assert (info.frames, info.samplerate, entry.duration) == (RATE, RATE, 1.0)
        noise = noises[entry.source.split("/")[0]]
        start = int(np.correlate(noise[: 1 - RATE], clip[:400]).argmax())
        first, last = (part * len(noise) for part in parts[entry.split])
        assert first <= start and start + RATE <= last
        level = np.dot(clip, noise[start : start + RATE]) / np.dot(
            noise[start : start + RATE], noise[start : start + RATE]
        )
        assert 0 <= level <= 1 and np.abs(clip - level * noise[start : start + RATE]).max() < 1e-4


def test_twelve_labels_depend_on_the_seed_alone(twelve, tmp_path):
    root, manifest = twelve
    again = prepare_speech_commands(root, 12, made=tmp_path / "again")
    other = prepare_speech_commands(root, 12, seed=1, made=tmp_path / "other")
    assert [e.id for e in again.entries] == [e.id for e in manifest.entries]
    pairs = zip(manifest.entries, again.entries, strict=True)
    assert all(a.path.read_bytes() == b.path.read_bytes() for a, b in pairs)
    assert [e.id for e in other.entries] != [e.id for e in manifest.entries]
    first = sorted((tmp_path / "again").iterdir())[0], sorted((tmp_path / "other").iterdir())[0]
    assert first[0].read_bytes() != first[1].read_bytes()


def test_made_silence_is_no_word(twelve):
    root, _ = twelve
    assert (root / "_silence_").is_dir()
    assert len(prepare_speech_commands(root).labels) == 30


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ("", {"n_labels": 10}, "has 35, 30 or 12 labels, not 10"),
        ("", {"n_labels": 35}, "gives 30 classes and not 35"),
        ("validation_list.txt", {}, "no .*validation_list.txt: upstream's archive has it"),
        ("_background_noise_", {"n_labels": 12}, "no recordings in .*_background_noise_"),
        ("words", {}, "has no folders of words with audio"),
    ],
)
def test_what_lacks_is_named(tmp_path, change, settings, message):
    make_corpus(tmp_path, per_word=3, noise=False, words=() if change == "words" else V1_WORDS)
    (tmp_path / change).unlink() if change.endswith(".txt") else None
    with pytest.raises(DataError, match=message):
        prepare_speech_commands(tmp_path, **settings)


def test_a_short_background_recording_is_named(tmp_path):
    make_corpus(tmp_path, per_word=3, noise=False)
    write_clip(tmp_path / "_background_noise_" / "brief.wav", 5.0)
    with pytest.raises(DataError, match=r"brief\.wav is too short to cut _silence_ from"):
        prepare_speech_commands(tmp_path, 12)


# download


def archive_of_one_clip() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("./yes/1_nohash_0.wav")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"hi"))
    return buffer.getvalue()


def test_the_archive_is_fetched_checked_and_unpacked_once(tmp_path, monkeypatch):
    content = archive_of_one_clip()
    (tmp_path / "x").write_bytes(content)
    monkeypatch.setitem(speech_commands.SHA256, "v0.02", file_sha256(tmp_path / "x"))
    with serving({"speech_commands_v0.02.tar.gz": content, "speech_commands_v0.01.tar.gz": content}) as server:
        monkeypatch.setattr(speech_commands, "URL", server.url + "speech_commands_{version}.tar.gz")
        for _ in range(2):
            folder = download_speech_commands(tmp_path / "sets")
            assert (folder / "yes/1_nohash_0.wav").read_bytes() == b"hi"
        assert len(server.requests) == 1
        with pytest.raises(DownloadError, match="as published"):
            download_speech_commands(tmp_path / "sets", "v0.01")
    with pytest.raises(DataError, match=r"has the versions v0\.01, v0\.02"):
        download_speech_commands(tmp_path, "v3")


# real audio


def test_the_real_flat_layout(real_data):
    manifest = prepare_speech_commands(real_data / "speech_commands", 12)
    assert splits(manifest) == {"train": 1636, "valid": 406, "test": 668}
    assert set(manifest.labels) == {*TEN_WORDS, "_unknown_", "_silence_"}
    spoken = [e for e in manifest.entries if e.labels != ("_silence_",)]
    assert all(e.speaker and len(e.speaker) == 8 for e in spoken)
    check = check_manifest(manifest.select("test").without(e.id for e in manifest.entries[200:]), min_seconds=0.9)
    assert not check.problems


def test_the_real_words_with_the_real_lists(real_data, tmp_path):
    source = real_data / "speech_commands"
    for word in (source / "words30_v0.01").iterdir():
        (tmp_path / word.name).symlink_to(word)
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / name).symlink_to(source / name)
    manifest = prepare_speech_commands(tmp_path, 30)
    assert splits(manifest) == {"train": 205, "valid": 44, "test": 51}
    by_split = {s: {e.speaker for e in manifest.select(s).entries} for s in ("train", "valid", "test")}
    assert not by_split["train"] & (by_split["valid"] | by_split["test"])
