from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from real_audio import DATA

from tome_audio.data.clips import DataError, clip_id, find_clips, load_waveforms


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_wav(path: Path, seconds: float = 0.1, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * rate)) / 5), rate)


def write_csv(root: Path, *rows: str, header: str = "file,label,speaker,split") -> None:
    (root / "split.csv").write_text("\n".join([header, *rows]) + "\n")


def summary(root: Path, **settings) -> list[tuple]:
    clips = find_clips(root, **settings)
    return [(c.path.relative_to(root).as_posix(), c.label, c.split, c.speaker) for c in clips]


# split.csv


def test_split_csv_gives_files_labels_speakers_and_splits(tmp_path):
    touch(tmp_path, "a/1.flac", "b/2.flac", "b/3.wav")
    write_csv(tmp_path, "a/1.flac,yes,ann,train", "b/2.flac,no,,valid", "b/3.wav,no,bob,test")
    assert summary(tmp_path) == [
        ("a/1.flac", "yes", "train", "ann"),
        ("b/2.flac", "no", "valid", None),
        ("b/3.wav", "no", "test", "bob"),
    ]


def test_split_csv_without_speakers_and_with_a_byte_order_mark(tmp_path):
    touch(tmp_path, "1.wav", "2.wav")
    (tmp_path / "split.csv").write_text("\ufefffile,label,split\n1.wav,x,train\n2.wav,y,test\n", "utf-8")
    assert summary(tmp_path) == [("1.wav", "x", "train", None), ("2.wav", "y", "test", None)]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,speaker,split", "1.wav,a,train", "has no column label: needs file, label, split"),
        ("path;name", "1.wav;a", "has no column file or label or split"),
        ("file,label,speaker,split", "gone.wav,x,,train", r"line 3: there is no file .*gone\.wav"),
        ("file,label,speaker,split", "2.wav,,,train", r"line 3: 2\.wav has no label"),
        ("file,label,speaker,split", "2.wav,x,,dev7", "line 3: split 'dev7' is not one of train, valid"),
        ("file,label,speaker,split", "2.wav,x", "line 3: split None is not one of"),
        ("file,label,speaker,split", "1.wav,x,,test", r"lists .*1\.wav twice"),
    ],
)
def test_a_bad_split_csv_is_named(tmp_path, header, row, message):
    touch(tmp_path, "1.wav", "2.wav")
    write_csv(tmp_path, "1.wav,x,,train", row, header=header)
    with pytest.raises(DataError, match=message):
        find_clips(tmp_path)


def test_a_split_csv_that_is_not_text_is_named(tmp_path):
    (tmp_path / "split.csv").write_bytes(b"file,label,split\n\xff\xfe\x00")
    with pytest.raises(DataError, match=r"split\.csv is not a readable CSV file in UTF-8"):
        find_clips(tmp_path)


# Free Spoken Digit Dataset


@pytest.mark.parametrize("below", ["", "recordings/"])
def test_fsdd_names_give_digit_speaker_and_split(tmp_path, below):
    touch(tmp_path, f"{below}0_ann_4.flac", f"{below}7_bob_5.flac", f"{below}7_bob_12.flac", "README.md")
    assert summary(tmp_path) == [
        (f"{below}0_ann_4.flac", "0", "test", "ann"),
        (f"{below}7_bob_12.flac", "7", "train", "bob"),
        (f"{below}7_bob_5.flac", "7", "train", "bob"),
    ]


def test_a_file_of_another_name_among_recordings_is_named(tmp_path):
    touch(tmp_path, "recordings/0_ann_4.wav", "recordings/song.wav")
    with pytest.raises(DataError, match=r"song\.wav is not named {digit}_{speaker}_{index} as 0_ann_4\.wav is"):
        find_clips(tmp_path)


def test_loose_files_of_other_names_are_no_layout(tmp_path):
    touch(tmp_path, "song.wav", "other.wav")
    with pytest.raises(DataError, match=r"no labelled audio .* expected split\.csv, recordings named"):
        find_clips(tmp_path)


# one folder per class


def make_classes(root: Path, n: int = 10, labels: str = "ab") -> None:
    touch(root, *(f"{label}/{i:02}.wav" for label in labels for i in range(n)))


def test_class_folders_are_split_per_class(tmp_path):
    make_classes(tmp_path)
    counts = Counter((c.label, c.split) for c in find_clips(tmp_path))
    assert counts == {("a", "train"): 8, ("a", "test"): 2, ("b", "train"): 8, ("b", "test"): 2}


def test_the_draw_depends_on_the_seed_alone(tmp_path):
    make_classes(tmp_path)
    assert summary(tmp_path, seed=1) == summary(tmp_path, seed=1)
    assert summary(tmp_path, seed=1) != summary(tmp_path, seed=2)


@pytest.mark.parametrize(("n", "n_test"), [(1, 0), (2, 1), (3, 1), (100, 20)])
def test_a_class_stays_in_train_and_is_in_test_if_it_can_be(tmp_path, n, n_test):
    make_classes(tmp_path, n)
    assert Counter(c.split for c in find_clips(tmp_path))["test"] == 2 * n_test


def test_all_extensions_in_any_case_at_any_depth_and_nothing_else(tmp_path):
    touch(tmp_path, "a/1.WAV", "a/x/2.flac", "a/3.txt", "a/._1.wav", "b/4.ogg", "b/5.Mp3")
    touch(tmp_path, ".git/6.wav", "_background_noise_/7.wav")
    assert [row[0] for row in summary(tmp_path)] == ["a/1.WAV", "a/x/2.flac", "b/4.ogg", "b/5.Mp3"]


def test_split_folders_are_kept_as_given(tmp_path):
    for split in ("train", "validation", "test"):
        make_classes(tmp_path / split, 5)
    assert Counter(c.split for c in find_clips(tmp_path)) == {"train": 10, "valid": 10, "test": 10}
    assert {c.label for c in find_clips(tmp_path)} == {"a", "b"}


def test_train_can_be_a_class_of_sounds(tmp_path):
    touch(tmp_path, "train/1.wav", "train/2.wav", "car/1.wav", "car/2.wav")
    assert Counter(c.label for c in find_clips(tmp_path)) == {"train": 2, "car": 2}


def test_a_train_folder_alone_is_split(tmp_path):
    make_classes(tmp_path / "train")
    assert Counter(c.split for c in find_clips(tmp_path)) == {"train": 16, "test": 4}


# what cannot be used


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_clips(tmp_path / "nowhere")


def test_a_folder_without_audio_is_named_with_the_layouts(tmp_path):
    touch(tmp_path, "a/notes.txt")
    with pytest.raises(DataError, match=r"no labelled audio \(\.flac, \.mp3, \.ogg, \.wav\) in .*per class"):
        find_clips(tmp_path)


def test_a_single_class_is_refused(tmp_path):
    make_classes(tmp_path, labels="a")
    with pytest.raises(DataError, match="holds a single class, 'a'"):
        find_clips(tmp_path)


def test_nothing_to_train_on_is_refused(tmp_path):
    make_classes(tmp_path / "test")
    with pytest.raises(DataError, match="no clip to train on"):
        find_clips(tmp_path)


@pytest.mark.parametrize("part", [0.0, 1.0, -1.0])
def test_a_test_part_outside_its_range_is_refused(tmp_path, part):
    with pytest.raises(DataError, match="test_part must be between 0 and 1"):
        find_clips(tmp_path, test_part=part)


# reading


def test_waveforms_come_in_order_at_the_wanted_rate_and_bad_files_are_kept_apart(tmp_path):
    write_wav(tmp_path / "a/1.wav", seconds=0.1)
    write_wav(tmp_path / "b/2.wav", seconds=0.3)
    (tmp_path / "b/1.wav").write_text("this is not audio")
    seen = []
    clips = find_clips(tmp_path)
    loaded = load_waveforms(clips, 16000, on_progress=lambda done, total: seen.append((done, total)))
    assert [c.path.name for c in loaded.clips] == ["1.wav", "2.wav"]
    assert [len(w) for w in loaded.waveforms] == [1600, 4800]
    assert len(loaded.errors) == 1 and "b/1.wav" in str(loaded.errors[0])
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_readable_file_at_all_is_an_error(tmp_path):
    make_classes(tmp_path, 2)
    with pytest.raises(DataError, match=r"none of 4 clips could be read; the first: .*a/00\.wav"):
        load_waveforms(find_clips(tmp_path))


# real data


@pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason=f"no Free Spoken Digit Dataset in {DATA}")
def test_real_fsdd():
    clips = find_clips(DATA / "fsdd")
    assert Counter(c.split for c in clips) == {"train": 2700, "test": 300}
    assert {c.label for c in clips} == set("0123456789") and len({c.speaker for c in clips}) == 6
    loaded = load_waveforms(clips[::300])
    assert not loaded.errors and len(loaded.waveforms) == 10


@pytest.mark.skipif(not (DATA / "speech_commands").is_dir(), reason=f"no Speech Commands in {DATA}")
def test_real_speech_commands():
    clips = find_clips(DATA / "speech_commands")
    assert Counter(c.split for c in clips) == {"train": 1636, "valid": 406, "test": 668}
    assert len({c.label for c in clips}) == 12
    by_split = {s: {c.speaker for c in clips if c.split == s and c.speaker} for s in ("train", "valid", "test")}
    assert not by_split["train"] & by_split["test"] and not by_split["valid"] & by_split["test"]


@pytest.mark.skipif(not (DATA / "speech_commands").is_dir(), reason=f"no Speech Commands in {DATA}")
def test_real_class_folders():
    clips = find_clips(DATA / "speech_commands" / "words30_v0.01")
    assert len(clips) == 300 and Counter(c.split for c in clips) == {"train": 240, "test": 60}


def test_clip_ids_keep_folders_and_drop_extensions(tmp_path):
    assert clip_id(tmp_path / "yes" / "0a_nohash_0.WAV", tmp_path) == "yes/0a_nohash_0"
    assert clip_id(tmp_path / "a.b", tmp_path) == "a.b"
    assert clip_id(tmp_path / ".." / "other" / "x.flac", tmp_path) == "../other/x"
    assert clip_id(Path("/elsewhere/x.flac"), tmp_path) == "/elsewhere/x"
