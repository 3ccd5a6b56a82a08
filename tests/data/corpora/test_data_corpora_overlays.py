"""Overlays: who sounds with whom, what is written, gone on with after a stop, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clip_files import RATE, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.audio import AudioError, read_audio
from tome_audio.data.clips import DataError
from tome_audio.data.corpora.esc50 import prepare_esc50
from tome_audio.data.corpora.overlays import (
    GAINS_DB,
    PEAK,
    draw_overlays,
    make_overlays,
    overlay_waveforms,
    without_shared_sources,
)
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_check import check_manifest
from tome_audio.data.manifest_files import read_manifest_csv

CLASSES = ("dog, big", "cat", "rain", "bell")
COUNTS = {"train": 6, "valid": 3, "test": 3}
SETTINGS = {"n_train": 6, "n_valid": 3, "n_test": 3}


def entries(n_classes=4, per_class=3, root=Path("nowhere")) -> list[Entry]:
    """Of every class in every split; a source holds one clip of each of two classes."""
    return [
        Entry(f"{split}-{c}-{i}", root / f"{split}-{c}-{i}.wav", (f"class {c}",), split, source=f"{split}{c // 2}{i}")
        for split in ("train", "valid", "test")
        for c in range(n_classes)
        for i in range(per_class)
    ]


def many(n_classes=4, per_class=3) -> Manifest:
    return Manifest(tuple(entries(n_classes, per_class)), tuple(f"class {c}" for c in range(n_classes)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Manifest:
    """Loud clips of 0.1 to 0.4 s, one at another rate: four classes, three recordings each in every split."""
    root = tmp_path_factory.mktemp("corpus")
    made = entries(root=root)
    for number, entry in enumerate(made):
        rate = 8000 if number == 5 else RATE
        samples = np.random.default_rng(number).uniform(-0.9, 0.9, int(rate * (0.1 + 0.1 * (number % 4))))
        soundfile.write(entry.path, samples, rate, subtype="FLOAT")
    made = [dataclasses.replace(e, labels=(CLASSES[int(e.labels[0][-1])],)) for e in made]
    return Manifest(tuple(made), CLASSES, tuple(label.upper() for label in CLASSES))


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("overlays") / "whole"
    make_overlays(corpus, folder, **SETTINGS)
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "parts.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# drawing


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**33),
    st.integers(3, 9),
    st.integers(2, 5),
    st.fixed_dictionaries(dict.fromkeys(COUNTS, st.integers(1, 12))),
)
def test_two_or_three_classes_and_recordings_of_one_split(seed, n_classes, per_class, counts):
    manifest = many(n_classes, per_class)
    overlays = draw_overlays(manifest, counts, seed)
    assert Counter(overlay.split for overlay in overlays) == counts and len({o.id for o in overlays}) == len(overlays)
    sources = {split: set() for split in counts}
    for overlay in overlays:
        heard = [part.entry.source for part in overlay.parts]
        assert len(heard) in (2, 3) and len(set(overlay.labels)) == len(set(heard)) == len(heard)
        assert {part.entry.split for part in overlay.parts} == {overlay.split}
        assert all(GAINS_DB[0] <= part.gain_db <= GAINS_DB[1] for part in overlay.parts)
        sources[overlay.split] |= set(heard)
    assert not sources["train"] & (sources["valid"] | sources["test"]) and not sources["valid"] & sources["test"]


def test_two_as_often_as_three_with_gains_over_the_whole_range():
    overlays = draw_overlays(many(), {"train": 600, "valid": 1, "test": 1})
    assert 240 < Counter(len(o.parts) for o in overlays)[2] < 360
    gains = np.array([part.gain_db for overlay in overlays for part in overlay.parts])
    counts, _ = np.histogram(gains, bins=6, range=GAINS_DB)
    assert counts.sum() == len(gains) and counts.min() > 0.7 * len(gains) / 6


def test_a_recording_in_two_splits_sounds_in_the_later_one():
    manifest = many()
    moved = {"train-0-0": "test00", "train-0-1": "valid00", "valid-1-1": "test12"}
    changed = tuple(dataclasses.replace(e, source=moved.get(e.id, e.source)) for e in manifest.entries)
    kept = without_shared_sources(Manifest(changed, manifest.labels))
    assert {e.id for e in manifest.entries} - {e.id for e in kept.entries} == moved.keys()
    overlays = draw_overlays(Manifest(changed, manifest.labels), {"train": 100, "valid": 50, "test": 50})
    assert not {part.entry.id for overlay in overlays for part in overlay.parts} & moved.keys()


def test_a_clip_of_unknown_source_is_a_recording_of_its_own():
    bare = tuple(dataclasses.replace(e, source=None) for e in many().entries)
    assert len(without_shared_sources(Manifest(bare, many().labels))) == len(bare)
    assert len(draw_overlays(Manifest(bare, many().labels), COUNTS)) == 12


def test_classes_are_skewed_in_train_and_even_elsewhere():
    """By Zipf's law: the first part of an overlay is of the class of rank k with a chance in proportion to 1 / k."""
    n_classes, n = 10, 4000
    overlays = draw_overlays(many(n_classes), {"train": n, "valid": n, "test": n})
    law = 1 / np.arange(1, n_classes + 1) / sum(1 / k for k in range(1, n_classes + 1))
    for split, wanted in (("train", law), ("valid", np.full(10, 0.1)), ("test", np.full(10, 0.1))):
        first = Counter(o.labels[0] for o in overlays if o.split == split)
        shares = np.sort([count / n for count in first.values()])[::-1]
        assert np.abs(shares - wanted).max() < 0.03
    frequent = [
        Counter(label for o in draw_overlays(many(n_classes), {**COUNTS, "train": 300}, seed) for label in o.labels)
        .most_common(1)[0][0]
        for seed in range(6)
    ]  # fmt: skip
    assert len(set(frequent)) > 1  # the order of the classes is drawn


def test_a_larger_set_begins_with_the_smaller_one():
    small = draw_overlays(many(), COUNTS, 3)
    large = draw_overlays(many(), {"train": 20, "valid": 5, "test": 7}, 3)
    assert set(small) <= set(large) and not set(small) & set(draw_overlays(many(), COUNTS, 4))


def test_splits_are_drawn_apart():
    overlays = draw_overlays(many(), {"train": 1, "valid": 20, "test": 20})
    classes = {split: [o.labels for o in overlays if o.split == split] for split in ("valid", "test")}
    assert sum(a == b for a, b in zip(*classes.values(), strict=True)) < 10


# writing


@pytest.mark.parametrize("n_samples", [None, 2000, 9000])
def test_waveforms_are_added_with_their_gains(n_samples):
    rng = np.random.default_rng(0)
    waves, gains = [rng.uniform(-0.3, 0.3, n).astype(np.float32) for n in (3000, 5000)], (-6.0, -1.5)
    length = n_samples or 5000
    wanted = [
        sum(float(w[t]) * 10 ** (g / 20) for w, g in zip(waves, gains, strict=True) if t < len(w))
        for t in range(length)
    ]
    mixed = overlay_waveforms(waves, gains, n_samples)
    assert mixed.shape == (length,) and np.abs(mixed - wanted).max() < 1e-12


def test_a_loud_sum_is_turned_down_and_a_quiet_one_is_not():
    loud = overlay_waveforms([np.array([0.9, -0.2]), np.array([0.9, 0.1])], [0.0, 0.0])
    assert np.allclose(loud, np.array([1.8, -0.1]) * PEAK / 1.8)
    assert not overlay_waveforms([np.zeros(3)], [0.0]).any()


def test_every_file_is_the_sum_of_its_parts_to_16_bits(corpus, made):
    clips = {entry.id: entry for entry in corpus.entries}
    turned_down, parts = 0, rows_of(made)
    for path in sorted(made.glob("audio/*/*.flac")):
        own = [row for row in parts if row["id"] == path.stem]
        waves = [read_audio(clips[row["clip"]].path).numpy().astype(np.float64) for row in own]
        total = np.zeros(max(map(len, waves)))
        for row, wave in zip(own, waves, strict=True):
            assert (row["label"],) == clips[row["clip"]].labels and row["source"] == clips[row["clip"]].source
            total[: len(wave)] += wave * 10 ** (float(row["gain_db"]) / 20)
        if (peak := np.abs(total).max()) > 0.99:
            turned_down, total = turned_down + 1, total * 0.99 / peak
        samples, rate = soundfile.read(path)
        assert rate == RATE and soundfile.info(path).subtype == "PCM_16" and np.abs(samples).max() <= 0.99
        assert samples.shape == total.shape and np.abs(samples - total).max() <= 0.5 / 2**15 + 1e-9
    assert turned_down > 0


def test_the_tables_say_what_was_made(corpus, made):
    found = read_manifest_csv(made / "manifest.csv", label_csv=made / "labels.csv")
    assert (found.labels, found.names) == (corpus.labels, corpus.names)
    assert Counter(e.split for e in found.entries) == COUNTS
    rows = rows_of(made)
    for entry in found.entries:
        assert entry.path == made / "audio" / entry.split / f"{entry.id}.flac"
        assert list(entry.labels) == [row["label"] for row in rows if row["id"] == entry.id]
        assert entry.duration == soundfile.info(entry.path).duration
    assert check_manifest(found).problems == ()
    assert not Path(next(csv.reader((made / "manifest.csv").read_text().splitlines()[1:]))[1]).is_absolute()


def test_the_same_seed_gives_the_same_bytes(corpus, made, tmp_path):
    make_overlays(corpus, tmp_path / "again", **SETTINGS)
    make_overlays(corpus, tmp_path / "other", **SETTINGS, seed=1)
    assert content(tmp_path / "again") == content(made)
    assert (tmp_path / "other/parts.csv").read_bytes() != (made / "parts.csv").read_bytes()


def test_a_length_holds_for_every_clip(corpus, tmp_path):
    found = make_overlays(corpus, tmp_path, **SETTINGS, seconds=0.25)
    assert {e.duration for e in found.entries} == {soundfile.info(e.path).duration for e in found.entries} == {0.25}


# stopped and gone on with


class Stopped(Exception):
    pass


def test_a_stopped_run_is_gone_on_with(corpus, made, tmp_path, monkeypatch):
    write, calls = soundfile.write, []

    def broken(path, samples, *words, **options):
        calls.append(path)
        if len(calls) == 6:
            Path(path).write_bytes(b"fLaC")  # as a kill leaves it
            raise Stopped
        write(path, samples, *words, **options)

    monkeypatch.setattr(soundfile, "write", broken)
    with pytest.raises(Stopped):
        make_overlays(corpus, tmp_path, **SETTINGS)
    assert len(list(tmp_path.glob("audio/*/*"))) == 5 and not (tmp_path / "manifest.csv").exists()
    leaving = tmp_path / "audio" / "train" / ".train-00005.0a.part.flac"
    leaving.write_bytes(b"fLaC")
    damaged, kept = tmp_path / "audio/train/train-00001.flac", tmp_path / "audio/train/train-00000.flac"
    damaged.write_bytes(damaged.read_bytes()[:200])
    before, seen = kept.stat().st_mtime_ns, []
    make_overlays(corpus, tmp_path, **SETTINGS, on_progress=lambda *counts: seen.append(counts))
    assert content(tmp_path) == content(made) and kept.stat().st_mtime_ns == before
    assert seen == [(i, 12) for i in range(1, 13)] and len(calls) == 6 + 12 - 4


def test_a_whole_set_is_left_as_it_is(corpus, made):
    before = {path: path.stat().st_mtime_ns for path in made.glob("audio/*/*")}
    make_overlays(corpus, made, **SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in made.glob("audio/*/*")} == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, r"holds overlays made otherwise \(seed was 0, now 1\): give another folder or delete"),
        ({"n_train": 7, "seconds": 1.0}, "n_train was 6, now 7; seconds was None, now 1.0"),
        ({}, "the clips to draw from were others"),
    ],
)
def test_a_folder_made_otherwise_is_refused(corpus, made, changed, said):
    before = content(made)
    manifest = corpus if changed else corpus.without(["train-0-0", "train-1-0"])
    with pytest.raises(DataError, match=said):
        make_overlays(manifest, made, **{**SETTINGS, **changed})
    assert content(made) == before


def test_a_folder_of_other_clips_is_refused(corpus, tmp_path):
    (tmp_path / "manifest.csv").write_text("id,path,labels\n")
    with pytest.raises(DataError, match=r"holds manifest\.csv of other clips: give another folder"):
        make_overlays(corpus, tmp_path, **SETTINGS)
    (tmp_path / "manifest.csv").unlink()
    (tmp_path / "overlays.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match=r"overlays\.json cannot be read: delete the folder"):
        make_overlays(corpus, tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["overlays.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda es: [e for e in es if e.split != "valid"], "valid has none: there are 12 test, 12 train"),
        (lambda es: [dataclasses.replace(e, split=None) for e in es], "train has none: there are 36 without split"),
        (lambda es: [e for e in es if e.split != "test" or e.labels[0] in ("class 0", "class 3")],
         "test has clips of 2 classes: overlays need at least 3"),
        (lambda es: [dataclasses.replace(e, source="one") if e.split == "valid" else e for e in es],
         "valid has too few recordings for . classes"),
        (lambda es: [*es[:5], dataclasses.replace(es[5], labels=("class 0", "class 1")), *es[6:]],
         "clips with one label each: train-1-2 has 2"),
        (lambda es: [dataclasses.replace(es[0], labels=()), *es[1:]], "one label each: train-0-0 has 0"),
        (lambda es: [dataclasses.replace(es[0], labels=("owl",)), *es[1:]], "train-0-0 has the unknown label 'owl'"),
    ],
)  # fmt: skip
def test_clips_that_cannot_be_overlaid_are_named_before_anything_is_written(tmp_path, change, said):
    manifest = Manifest(tuple(change(entries())), many().labels)
    with pytest.raises(DataError, match=said):
        make_overlays(manifest, tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n_valid": 0}, "n_valid must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seconds": 0.0}, "seconds must be the length of an overlay, got 0.0"),
        ({"seconds": float("nan")}, "got nan"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, changed, said):
    with pytest.raises(DataError, match=said):
        make_overlays(many(), tmp_path / "out", **{**SETTINGS, **changed})
    assert not (tmp_path / "out").exists()


def test_a_clip_that_cannot_be_read_is_named_and_the_run_goes_on_once_it_can(tmp_path):
    made = entries(per_class=1, root=tmp_path)
    manifest = Manifest(tuple(dataclasses.replace(e, source=None) for e in made), many().labels)
    for entry in made:
        write_clip(entry.path, 0.1)
    gone = tmp_path / "valid-2-0.wav"
    gone.unlink()
    with pytest.raises(AudioError, match=r"valid-2-0\.wav: no such file; check the path"):
        make_overlays(manifest, tmp_path / "out", n_train=3, n_valid=20, n_test=3)
    assert not (tmp_path / "out/manifest.csv").exists()
    write_clip(gone, 0.1)
    assert len(make_overlays(manifest, tmp_path / "out", n_train=3, n_valid=20, n_test=3)) == 26


@pytest.mark.parametrize("fold", [1, 2, 3, 4, 5])
def test_the_real_folds(real_data, fold):
    """Upstream's folds share four recordings, of which none sounds in two splits here."""
    manifest = prepare_esc50(real_data / "esc50", fold)
    assert len(manifest) - len(without_shared_sources(manifest)) < 20
    overlays = draw_overlays(manifest, {"train": 2000, "valid": 400, "test": 400})
    sources = {split: {p.entry.source for o in overlays if o.split == split for p in o.parts} for split in COUNTS}
    assert not sources["train"] & (sources["valid"] | sources["test"]) and not sources["valid"] & sources["test"]
    count = {split: Counter(label for o in overlays if o.split == split for label in o.labels) for split in COUNTS}
    assert all(len(found) == 50 for found in count.values())
    ordered = {split: [n for _, n in found.most_common()] for split, found in count.items()}
    assert ordered["train"][0] > 30 * ordered["train"][-1] and ordered["test"][0] < 5 * ordered["test"][-1]
