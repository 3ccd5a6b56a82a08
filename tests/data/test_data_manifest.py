from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from clip_files import write_clip

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest, find_manifest, joined


def entry(name: str, *labels: str, **known) -> Entry:
    return Entry(name, Path(f"{name}.wav"), labels, **known)


ANIMALS = Manifest(
    (
        entry("1", "dog", split="train", fold=1),
        entry("2", "cat", split="train", fold=2),
        entry("3", "dog", "cat", split="test", fold=2),
    ),
    ("dog", "cat"),
)


def test_targets_have_a_1_at_every_label():
    assert ANIMALS.targets().tolist() == [[1, 0], [0, 1], [1, 1]]


def test_no_labels_and_no_clips():
    bare = Manifest((entry("1"),), ("dog", "cat"))
    assert bare.targets().tolist() == [[0, 0]] and bare.target(0).tolist() == [0, 0]
    none = bare.without(["1"])
    assert none.targets().shape == (0, 2) and none.class_indices().dtype == torch.int64


def test_class_indices_follow_the_order_of_labels():
    train = ANIMALS.select(split="train")
    assert train.class_indices().tolist() == [0, 1] and train.class_indices().dtype == torch.int64
    assert train.with_labels(["bird", "cat", "dog"], ["Bird", "Cat", "Dog"]).class_indices().tolist() == [2, 1]


def test_select_by_split_and_fold_and_leave_out_by_id():
    assert [e.id for e in ANIMALS.select(split="train", fold=2).entries] == ["2"]
    assert [e.id for e in ANIMALS.select(fold=2).entries] == ["2", "3"]
    assert [e.id for e in ANIMALS.without(["1", "9"]).entries] == ["2", "3"]
    assert ANIMALS.without(["1"]).labels == ANIMALS.labels == ANIMALS.names


def test_summary_counts_splits():
    assert ANIMALS.summary() == "1 test, 2 train; 2 classes"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Manifest((entry("1", "a"), entry("1", "b")), ("a", "b")), "clip id '1' is listed twice"),
        (lambda: Manifest((entry("1", "a"),), ("a", "a")), "label 'a' is listed twice"),
        (lambda: Manifest((entry("1", "a"),), ("a",), ("A", "B")), "1 labels have 2 names"),
        (lambda: ANIMALS.select(split="valid"), "no clip has split 'valid': there are 1 test, 2 train"),
        (lambda: ANIMALS.select(split="test", fold=1), "no clip has split 'test' and fold 1"),
        (lambda: ANIMALS.class_indices(), "3 has 2 labels where one is needed"),
        (lambda: ANIMALS.with_labels(["dog"]), "2 has the unknown label 'cat'"),
    ],
)
def test_what_cannot_be_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_folders_per_class_become_a_manifest(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "b/1.flac", "b/2.flac"):
        write_clip(tmp_path / name)
    manifest = find_manifest(tmp_path)
    assert {e.id for e in manifest.entries} == {"a/1", "a/2", "b/1", "b/2"}
    assert manifest.labels == ("a", "b") and manifest.class_indices().tolist() == [0, 0, 1, 1]
    assert Counter(e.split for e in manifest.entries) == {"train": 2, "test": 2}


def test_digits_with_speakers_become_a_manifest(tmp_path):
    for name in ("0_ann_0", "0_ann_7", "1_bob_3"):
        write_clip(tmp_path / "recordings" / f"{name}.wav")
    found = {e.id: (e.labels, e.speaker, e.split) for e in find_manifest(tmp_path).entries}
    assert found["recordings/0_ann_7"] == (("0",), "ann", "train")
    assert found["recordings/1_bob_3"] == (("1",), "bob", "test")


def test_joined_manifests_share_classes_and_keep_every_clip():
    more = Manifest((entry("1", "owl", split="test"), entry("9", "cat", split="train")), ("owl", "cat"), ("Owl", "Cat"))
    found = joined(ANIMALS, more, "woods")
    assert found.labels == ("dog", "cat", "owl") and found.names == ("dog", "cat", "Owl")
    assert [e.id for e in found.entries] == ["1", "2", "3", "woods/1", "9"]
    assert found.entries[3].path == Path("1.wav") and found.entries[3].split == "test"
    with pytest.raises(DataError, match="'woods/1' is listed twice"):
        joined(found, more.without(["9"]), "woods")
