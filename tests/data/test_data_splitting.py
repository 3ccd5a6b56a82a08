from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.splitting import set_apart


def many(n: int = 300, n_sources: int = 60, labels: str = "abcde", n_labels: int = 1) -> Manifest:
    rng = np.random.default_rng(0)
    entries = tuple(
        Entry(
            str(i), Path(f"{i}.wav"), tuple(sorted(rng.choice(list(labels), n_labels, replace=False).tolist())),
            "test" if i % 5 == 0 else "train", speaker=str(i % 7), source=str(rng.integers(n_sources)),
        )
        for i in range(n)
    )  # fmt: skip
    return Manifest(entries, tuple(labels))


def groups(manifest: Manifest, split: str, by: str) -> set[str]:
    return {getattr(entry, by) for entry in manifest.entries if entry.split == split}


@pytest.mark.parametrize("by", ["source", "speaker", "id"])
@pytest.mark.parametrize("n_labels", [1, 2])
def test_no_group_is_on_both_sides_and_test_is_untouched(by, n_labels):
    before = many(n_labels=n_labels)
    after = set_apart(before, 0.2, by=by)
    assert groups(after, "valid", by) and not groups(after, "valid", by) & groups(after, "train", by)
    assert [e.id for e in after.entries] == [e.id for e in before.entries]
    assert after.select("test") == before.select("test")


def test_every_class_gives_about_its_part_and_stays_in_train():
    after = set_apart(many(1000), 0.2, by="id")
    counts = Counter((e.labels[0], e.split) for e in after.entries)
    for label in "abcde":
        train, valid = counts[label, "train"], counts[label, "valid"]
        assert valid == round(0.2 * (train + valid))


@pytest.mark.parametrize("n_labels", [1, 2])
def test_every_class_keeps_a_group_in_train_however_much_is_asked_for(n_labels):
    after = set_apart(many(60, n_sources=12, n_labels=n_labels), 0.99)
    train = {label for e in after.entries if e.split == "train" for label in e.labels}
    assert train == set("abcde") and groups(after, "valid", "source")


def test_a_class_of_one_group_stays_in_train():
    entries = [Entry(str(i), Path("x"), ("a",), "train", source="one") for i in range(4)]
    entries += [Entry(f"b{i}", Path("x"), ("b",), "train", source=str(i)) for i in range(4)]
    after = set_apart(Manifest(tuple(entries), ("a", "b")), 0.3)
    assert {e.labels[0] for e in after.entries if e.split == "valid"} == {"b"}
    with pytest.raises(DataError, match="every class has one source only"):
        set_apart(Manifest(tuple(entries[:4]), ("a",)), 0.3)


def test_the_draw_depends_on_the_seed_alone():
    assert set_apart(many(), 0.2, seed=1) == set_apart(many(), 0.2, seed=1)
    assert set_apart(many(), 0.2, seed=1) != set_apart(many(), 0.2, seed=2)


def test_clips_of_unknown_source_are_groups_of_their_own():
    entries = tuple(Entry(str(i), Path("x"), ("a",), "train") for i in range(10))
    after = set_apart(Manifest(entries, ("a",)), 0.3)
    assert Counter(e.split for e in after.entries) == {"train": 7, "valid": 3}


@pytest.mark.parametrize(("part", "by"), [(0.0, "source"), (1.0, "source"), (0.5, "fold")])
def test_settings_out_of_range_are_named(part, by):
    with pytest.raises(DataError, match=r"needs a part in \(0, 1\) and by one of source, speaker, id"):
        set_apart(many(), part, by=by)
