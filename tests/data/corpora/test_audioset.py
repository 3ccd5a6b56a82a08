from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from clip_files import write_bad_clips, write_clip
from file_server import serving

from tome_audio.data.clips import DataError
from tome_audio.data.corpora import audioset
from tome_audio.data.corpora.audioset import download_audioset, name_variants, prepare_audioset, read_segments
from tome_audio.data.manifest_check import check_manifest

HEAD = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids={n}, num_segs={n}, num_unique_labels=527\n"
COLUMNS = "# YTID, start_seconds, end_seconds, positive_labels\n"
ROW = '{id}, {start:.3f}, {end:.3f}, "{labels}"\n'


def table(path: Path, *ids: str, labels: str = "/m/000,/m/001", promised: int | None = None) -> Path:
    rows = [ROW.format(id=name, start=30, end=40, labels=labels) for name in ids]
    path.write_text(HEAD.format(n=len(ids) if promised is None else promised) + COLUMNS + "".join(rows))
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    rows = "".join(f'{i},/m/{i:03},"Class {i}, or ""so"""\n' for i in range(527))
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n" + rows)
    table(tmp_path / "balanced_train_segments.csv", "balanced-01", "balanced_02")
    table(tmp_path / "unbalanced_train_segments.csv", "unbalanced1", labels="/m/526")
    table(tmp_path / "eval_segments.csv", "--evaluat01", "Yevaluat_02")
    (tmp_path / "audio").mkdir()
    return tmp_path


def test_segments_skip_comments_and_keep_quoted_labels_and_dashes(root):
    first, second = read_segments(root / "eval_segments.csv")
    assert first == ("--evaluat01", 30.0, 40.0, ("/m/000", "/m/001"))
    assert second.youtube_id == "Yevaluat_02"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.format(n=3) + 'a, 0.0, 1.0, "/m/000"\n', "says it has 3 segments and has 1: fetch it again"),
        ("a, 0.0, 1.0\n", "is not id, start, end and labels in quotes"),
        ("a, 0.0, 1.0, /m/000, /m/001\n", "is not id, start, end and labels in quotes"),
        ("a, zero, 1.0, /m/000\n", "could not convert string to float"),
        (None, r"cannot be read .*: fetch it with download_audioset"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_segments(tmp_path / "t.csv")


def test_balanced_and_full(root):
    manifest = prepare_audioset(root)
    assert Counter(e.split for e in manifest.entries) == {"train": 2, "test": 2}
    assert len(manifest.labels) == 527 and manifest.names[1] == 'Class 1, or "so"'
    assert manifest.targets().sum(1).tolist() == [2.0] * 4 and manifest.entries[0].source == "balanced-01"
    assert Counter(e.split for e in prepare_audioset(root, train="full").entries) == {"train": 3, "test": 2}


@pytest.mark.parametrize(
    "name",
    [
        "--evaluat01.wav", "Y--evaluat01.flac", "x/y/--evaluat01_30.000.flac", "--evaluat01_30.000_40.000.ogg",
        "Y--evaluat01_30_40.wav", "--evaluat01_30000_40000.WAV", "Y--evaluat01_30000.mp3", "--evaluat01_30.wav",
    ],
)  # fmt: skip
def test_clips_are_found_under_their_usual_names(root, name):
    path = root / "audio" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (root / "audio" / "Y--evaluat01_30_40.txt").touch()
    found = {e.id: e.path for e in prepare_audioset(root).entries}
    assert found["--evaluat01"] == path
    assert found["balanced-01"] == root / "audio" / "balanced-01.wav"


def test_an_id_that_begins_with_y_is_not_taken_for_a_prefix(root):
    for name in ("Yevaluat_02.wav", "YYevaluat_02_70_80.wav"):
        (root / "audio" / name).touch()
    assert {e.id: e.path.name for e in prepare_audioset(root).entries}["Yevaluat_02"] == "Yevaluat_02.wav"
    names = list(name_variants(read_segments(root / "eval_segments.csv")[1]))
    assert len(names) == len(set(names)) and all("Yevaluat_02" in name for name in names)


def test_missing_corrupt_and_short_clips_are_listed_and_the_rest_is_used(root):
    bad = write_bad_clips(root / "bad")
    kinds = ("truncated.wav", "nothing.wav", "nan.wav", "text.wav", "short.wav")
    ids = [f"{i:011}" for i in range(len(kinds))]
    for name, kind in zip(ids, kinds, strict=True):
        bad[kind].rename(root / "audio" / f"Y{name}.wav")
    for name in ("balanced-01", "--evaluat01"):
        write_clip(root / "audio" / f"{name}.wav", 1.0)
    table(root / "balanced_train_segments.csv", "balanced-01", "balanced_02", *ids)
    check = check_manifest(prepare_audioset(root), min_seconds=0.5)
    assert [e.id for e in check.usable.entries] == ["balanced-01", "--evaluat01"]
    assert check.counts == {
        "damaged": 1, "empty": 1, "missing": 2, "not finite": 1, "too short": 1, "truncated": 1,
    }  # fmt: skip
    assert all(name in check.text() for name in [*ids, "balanced_02", "Yevaluat_02"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: prepare_audioset(root, train="all"), "trains on balanced or full, not 'all'"),
        (lambda root: prepare_audioset(root, root / "gone"), "gone is not a folder: give the folder of clips"),
        (lambda root: (root / "eval_segments.csv").unlink() or prepare_audioset(root), "eval_segments.csv cannot be"),
        (
            lambda root: (
                (root / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0,a\n")
                and prepare_audioset(root)
            ),
            "has 527 classes, .* has 1",
        ),
    ],
)
def test_what_lacks_is_named(root, call, message):
    with pytest.raises(DataError, match=message):
        call(root)


def test_the_tables_are_fetched(root, tmp_path, monkeypatch):
    names = (audioset.LABELS, *audioset.TABLES.values())
    with serving({name: (root / name).read_bytes() for name in names}) as server:
        monkeypatch.setattr(audioset, "URL", server.url)
        folder = download_audioset(tmp_path / "fetched")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert len(read_segments(folder / "eval_segments.csv")) == 2


def test_the_real_classes_serve_the_tables(root, real_data):
    table(root / "eval_segments.csv", "--4gqARaEJE", labels="/m/068hy,/m/07q6cd_,/m/0bt9lr,/m/0jbk")
    for name in ("balanced_train_segments.csv",):
        table(root / name, "-0BIyqJj9ZU", labels="/m/07rgt08,/m/07sq110")
    labels = real_data / "labels" / "audioset_class_labels_indices.csv"
    manifest = prepare_audioset(root, real_data / "clips", label_csv=labels)
    assert manifest.targets().sum(1).tolist() == [2.0, 4.0]
    assert manifest.names[0] == "Speech" and len(manifest.labels) == 527
