from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from file_server import serving

from tome_audio.data.clips import DataError
from tome_audio.data.corpora import esc50
from tome_audio.data.corpora.esc50 import download_esc50, prepare_esc50
from tome_audio.data.manifest_files import read_label_csv

HEADER = "filename,fold,target,category,esc10,src_file,take"


def make_corpus(root: Path, audio: str = "audio") -> Path:
    """Two classes in five folds of eight clips each; pairs of clips share a source."""
    rows = [
        f"{fold}-{(source := f'{fold}{target}{i // 2}')}-{'AB'[i % 2]}-{target}.wav,"
        f"{fold},{target},{name},False,{source},{'AB'[i % 2]}"
        for fold in range(1, 6)
        for target, name in enumerate(("dog, big", "cat"))
        for i in range(8)
    ]
    for folder in ("meta", audio):
        (root / folder).mkdir(parents=True)
    (root / "meta/esc50.csv").write_text(
        "\n".join([HEADER, *(row.replace("dog, big", '"dog, big"') for row in rows)]) + "\n"
    )
    for row in rows:
        (root / audio / row.split(",")[0].replace(".wav", ".flac")).touch()
    return root


@pytest.mark.parametrize("audio", ["audio", "audio_16k"])
def test_a_fold_is_test_and_sources_are_on_one_side(tmp_path, audio):
    manifest = prepare_esc50(make_corpus(tmp_path, audio), 3, valid_part=0.25)
    assert manifest.labels == ("dog, big", "cat")  # the order of targets
    assert {e.fold for e in manifest.select("test").entries} == {3}
    assert 3 not in {e.fold for s in ("train", "valid") for e in manifest.select(s).entries}
    assert Counter((e.split, e.labels[0]) for e in manifest.entries) == {
        ("train", "dog, big"): 24, ("valid", "dog, big"): 8, ("test", "dog, big"): 8,
        ("train", "cat"): 24, ("valid", "cat"): 8, ("test", "cat"): 8,
    }  # fmt: skip
    sources = {s: {e.source for e in manifest.select(s).entries} for s in ("train", "valid")}
    assert not sources["train"] & sources["valid"]
    assert all(e.path.is_file() and e.path.suffix == ".flac" for e in manifest.entries)


def test_without_a_valid_part_the_other_folds_are_train(tmp_path):
    manifest = prepare_esc50(make_corpus(tmp_path), 1, valid_part=0)
    assert Counter(e.split for e in manifest.entries) == {"train": 64, "test": 16}


def test_a_clip_that_is_not_there_stays_in_the_manifest(tmp_path):
    gone = next(make_corpus(tmp_path).glob("audio/*"))
    gone.unlink()
    entry = next(e for e in prepare_esc50(tmp_path, 1).entries if e.id == gone.stem)
    assert entry.path == gone.with_suffix(".wav")


@pytest.mark.parametrize(
    ("text", "fold", "message"),
    [
        (None, 1, "there is no .*esc50.csv: give the unpacked ESC-50"),
        ("filename,fold\n1.wav,1\n", 1, "needs filename, fold, target, category, src_file in every row"),
        (f"{HEADER}\n", 1, "is not ESC-50's table"),
        (f"{HEADER}\n", 6, "has the folds 1 to 5, not 6"),
    ],
)
def test_what_is_not_esc50_is_named(tmp_path, text, fold, message):
    (tmp_path / "meta").mkdir()
    if text is not None:
        (tmp_path / "meta/esc50.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        prepare_esc50(tmp_path, fold)


def test_download(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ESC-50-master/meta/esc50.csv", HEADER)
    with serving({"master.zip": buffer.getvalue()}) as server:
        monkeypatch.setattr(esc50, "URL", server.url + "master.zip")
        monkeypatch.setattr("tome_audio.data.download.time.sleep", lambda seconds: None)
        server.breaks = [40]
        for _ in range(2):
            assert (download_esc50(tmp_path) / "meta/esc50.csv").read_text() == HEADER


@pytest.mark.parametrize("fold", [1, 2, 3, 4, 5])
def test_the_real_folds(real_data, fold):
    manifest = prepare_esc50(real_data / "esc50", fold)
    assert len(manifest) == 2000 and all(e.path.is_file() for e in manifest.entries)
    assert Counter(manifest.select("test").class_indices().tolist()) == dict.fromkeys(range(50), 8)
    valid, train = manifest.select("valid"), manifest.select("train")
    assert 150 <= len(valid) <= 220 and len(set(valid.class_indices().tolist())) == 50
    assert len(set(train.class_indices().tolist())) == 50
    assert not {e.source for e in valid.entries} & {e.source for e in train.entries}


def test_the_real_classes_are_in_the_order_of_ast(real_data):
    names = read_label_csv(real_data / "labels" / "esc_class_labels_indices.csv").names
    assert tuple(label.replace("_", " ") for label in prepare_esc50(real_data / "esc50", 1).labels) == tuple(
        name.replace("_", " ") for name in names
    )
