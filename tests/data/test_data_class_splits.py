"""Class splits: read, drawn and applied; a class in two parts, a missing file and a missing class are errors."""

import json

import pytest

from tome_audio.data.class_splits import ClassSplit, apply_class_split, draw_class_split, read_class_split
from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest

NAMES = ("cow", "owl", "hen", "dog")


def manifest():
    entries = tuple(Entry(f"{name}-{i}", f"{name}-{i}.wav", (name,), "train") for name in NAMES for i in range(2))
    return Manifest(entries, NAMES, ("Cow", "Owl", "Hen", "Dog"))


def write(path, found):
    path.write_text(json.dumps(found))
    return path


@pytest.mark.parametrize("key", ["val", "valid"])
def test_a_split_is_read_in_metaaudios_format(tmp_path, key):
    path = write(tmp_path / "split.json", {"train": ["cow"], key: ["owl"], "test": ["hen", "dog"]})
    assert read_class_split(path) == ClassSplit(("cow",), ("owl",), ("hen", "dog"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no class split .*split.json"),
        ("[1, 2", "cannot be read"),
        ('["cow"]', "no list of class names under 'train'"),
        ('{"train": ["cow"], "val": [1], "test": []}', "under 'val'"),
        ('{"train": ["cow"], "val": ["cow"], "test": ["hen"]}', "'cow' is in train and in valid"),
        ('{"train": ["cow", "cow"], "val": [], "test": ["hen"]}', "'cow' is in train and in train"),
    ],
)
def test_what_is_no_split_is_named(tmp_path, text, said):
    if text is not None:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=said):
        read_class_split(tmp_path / "split.json")


def test_applied_it_sets_parts_and_leaves_other_classes_out():
    found = apply_class_split(manifest(), ClassSplit(("dog",), ("cow",), ("owl",)))
    assert found.labels == ("cow", "owl", "dog") and found.names == ("Cow", "Owl", "Dog")
    assert {entry.labels[0]: entry.split for entry in found.entries} == {"cow": "valid", "owl": "test", "dog": "train"}
    assert len(found) == 6


def test_a_class_without_clips_and_a_clip_of_two_classes_are_named():
    with pytest.raises(DataError, match="1 classes of the split have no clip, such as yak"):
        apply_class_split(manifest(), ClassSplit(("dog",), ("yak",), ("owl",)))
    mixed = Manifest((Entry("both", "both.wav", ("cow", "owl")),), NAMES)
    with pytest.raises(DataError, match="both has 2 labels"):
        apply_class_split(mixed, ClassSplit(("cow",), (), ("owl",)))


def test_a_draw_is_disjoint_complete_and_seeded():
    drawn = draw_class_split(NAMES, 1, 2, seed=3)
    assert (len(drawn.train), len(drawn.valid), len(drawn.test)) == (1, 1, 2)
    assert sorted(drawn.train + drawn.valid + drawn.test) == sorted(NAMES)
    assert draw_class_split(NAMES, 1, 2, seed=3) == drawn
    assert len({draw_class_split(NAMES, 1, 2, seed=seed) for seed in range(8)}) > 1
    with pytest.raises(DataError, match="4 classes cannot give 2 to validate on, 2 to test on"):
        draw_class_split(NAMES, 2, 2, seed=0)


def test_metaaudios_own_splits_are_read(real_data):
    files = sorted((real_data / "metaaudio_splits").glob("*.json"))
    sizes = {file.stem: tuple(map(len, (s.train, s.valid, s.test))) for file in files for s in [read_class_split(file)]}
    assert sizes["ESC_paper_splits"] == (35, 5, 10) and sizes["Kaggle18_norm_split"] == (29, 5, 7)
    assert sizes["NSYNTH_norm_split"] == (705, 101, 200) and sizes["BirdClef_norm_split_PRUNED"] == (501, 72, 142)
