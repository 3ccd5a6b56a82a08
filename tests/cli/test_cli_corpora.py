"""`tome-audio manifest`: clips of several folders, of chosen classes, and of one part of them."""

import json

import pytest
from clip_files import write_clip

from tome_audio.data.manifest_files import read_manifest_csv


@pytest.fixture
def folders(tmp_path):
    """Two folders of labelled clips that share the class cow."""
    for folder, classes in (("farm", ("cow", "hen")), ("woods", ("cow", "owl"))):
        for label in classes:
            for i in range(5):
                write_clip(tmp_path / folder / label / f"{i}.wav", 0.1, seed=i)
    (tmp_path / "classes.json").write_text(json.dumps({"train": ["cow"], "val": ["hen"], "test": ["owl"]}))
    return tmp_path


def manifest(run, folders, *words):
    code, _, err = run("manifest", "--data", folders / "farm", "--out", folders / "out", *words)
    assert code == 0, err
    return read_manifest_csv(folders / "out" / "manifest.csv", label_csv=folders / "out" / "labels.csv")


def counts(found):
    return {label: sum(label in entry.labels for entry in found.entries) for label in found.labels}


def test_classes_of_one_name_in_several_folders_are_one_class(run, folders):
    found = manifest(run, folders, "--add", f"[{folders / 'woods'}]")
    assert counts(found) == {"cow": 10, "hen": 5, "owl": 5}
    assert len({entry.path for entry in found.entries}) == 20 and all(entry.path.is_file() for entry in found.entries)
    assert {entry.id.split("/")[0] for entry in found.entries if "woods" in entry.id} == {"woods"}


def test_a_class_gives_its_clips_to_the_split_that_a_file_names(run, folders):
    words = ("--add", f"[{folders / 'woods'}]", "--classes", folders / "classes.json")
    found = manifest(run, folders, *words)
    assert {entry.labels[0]: entry.split for entry in found.entries} == {"cow": "train", "hen": "valid", "owl": "test"}


def test_one_part_of_the_classes_keeps_the_splits_of_the_data(run, folders):
    whole = {entry.id: entry.split for entry in manifest(run, folders).entries}
    found = manifest(
        run, folders, "--add", f"[{folders / 'woods'}]", "--classes", folders / "classes.json", "--part", "train"
    )
    assert counts(found) == {"cow": 10}
    kept = {entry.id: entry.split for entry in found.entries if entry.id in whole}
    assert kept == {name: split for name, split in whole.items() if "cow" in name} and len(set(kept.values())) > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--part", "train"), "--part is a part of --classes: give both"),
        (("--classes", "none.json"), "there is no class split none.json"),
        (("--classes", "classes.json"), "1 classes of the split have no clip, such as owl"),
        (("--add", "[nowhere]"), "nowhere"),
    ],
)
def test_what_does_not_fit_is_one_sentence(run, folders, monkeypatch, words, said):
    monkeypatch.chdir(folders)
    code, _, err = run("manifest", "--data", "farm", "--out", "out", *words)
    assert code == 2 and said in err and not (folders / "out" / "manifest.csv").exists()
