"""Clips and classes of `tome-audio fewshot`: which are used, and one sentence for each kind that cannot be."""

from dataclasses import replace

import pandas as pd
import pytest
from clip_files import write_bad_clips
from generated_clips import TEST, TRAIN, VALID, write_manifest, write_split

from tome_audio.cli.corpora import CorpusConfig
from tome_audio.cli.fewshot.config import AudioConfig, ClassesConfig, EpisodesConfig, ViewsConfig
from tome_audio.cli.fewshot.data import check_episodes, find_clips, find_spectrum, make_views, shapes, split_classes
from tome_audio.data.class_splits import draw_class_split
from tome_audio.data.clips import DataError
from tome_audio.data.episodes import EpisodeShape
from tome_audio.data.manifest import Entry
from tome_audio.data.manifest_files import read_manifest_csv

BAD = ("missing.wav", "truncated.flac", "empty.wav", "nan.wav")
UNCHECKED = AudioConfig(check=False)


@pytest.fixture
def manifest(clips):
    return read_manifest_csv(clips / "manifest.csv", label_csv=clips / "labels.csv")


def found_in(folder, classes, tmp_path, parts=("train", "valid")):
    return find_clips(str(folder), CorpusConfig(), classes, UNCHECKED, tmp_path / "problems.csv", parts)


@pytest.fixture
def with_bad(manifest, tmp_path):
    """The manifest with four clips that nobody can use, in a class to train on."""
    files = write_bad_clips(tmp_path / "bad")
    entries = tuple(Entry(name, files[name], (TRAIN[0],), "train") for name in BAD)
    return write_manifest(replace(manifest, entries=(*manifest.entries, *entries)), tmp_path / "with_bad")


def test_unusable_clips_are_named_before_anything_else(train, with_bad, tmp_path):
    code, _, err = train(data=with_bad)
    assert code == 2 and "4 of 34 clips cannot be used" in err and "--audio.skip_unusable true" in err
    assert all(name in err for name in BAD)
    table = pd.read_csv(tmp_path / "out" / "problems.csv")
    assert sorted(table["id"]) == sorted(BAD) and {"missing", "empty", "not finite"} <= set(table["kind"])
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_it_goes_on_without_unusable_clips_where_it_may(train, evaluate, untrained, with_bad, tmp_path):
    skip = ("--audio.skip_unusable", "true")
    code, text, err = train(*skip, "--trainer.epochs", "1", "--episodes.per_epoch", "2", data=with_bad)
    assert code == 1 and "skipped 4 of 34 clips; it goes on with 30" in err and "with 18 clips" in text
    # Clips of other parts are not looked at, and simpleshot does look at those to train on.
    model = untrained()
    assert evaluate(model, data=with_bad)[0] == 0
    code, _, err = evaluate(model, "--classifier", "simpleshot", data=with_bad)
    assert code == 2 and "4 of 40 clips cannot be used" in err
    assert evaluate(model, "--classifier", "simpleshot", *skip, data=with_bad)[0] == 1


def test_a_class_that_skipped_clips_leave_too_small_is_named(train, manifest, with_bad, tmp_path):
    entries = tuple(entry for entry in manifest.entries if not entry.id.startswith("0-"))
    bad = read_manifest_csv(with_bad / "manifest.csv", label_csv=with_bad / "labels.csv").entries[-4:]
    good = tuple(entry for entry in manifest.entries if entry.id.startswith("0-"))[:2]
    folder = write_manifest(replace(manifest, entries=(*entries, *good, *bad)), tmp_path / "few")
    code, _, err = train("--audio.skip_unusable", "true", data=folder)
    assert (
        code == 2 and "needs 3 clips of every class, but 1 of 3 classes of the training part have fewer: 7 (2)" in err
    )


def test_classes_of_any_name_go_where_the_split_says(clips, split, tmp_path):
    found = found_in(clips, ClassesConfig(split=str(split)), tmp_path, ("train", "valid", "test"))
    for part, names in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        own = found.part(part)
        assert set(own.labels) == set(names) and {entry.labels[0] for entry in own.entries} == set(names)
        assert len(own) == 6 * len(names)


def test_a_part_has_the_classes_it_has_clips_of(manifest, clips, split, tmp_path):
    found = found_in(clips, ClassesConfig(split=str(split)), tmp_path)
    assert found.part("test") is None and len(found.manifest) == 30


def test_classes_are_drawn_where_no_file_says_which(manifest):
    found = split_classes(manifest, ClassesConfig(n_valid=2, n_test=3, seed=4))
    drawn = draw_class_split(manifest.labels, 2, 3, 4)
    assert {e.labels[0] for e in found.entries if e.split == "test"} == set(drawn.test)
    assert {e.labels[0] for e in found.entries if e.split == "valid"} == set(drawn.valid)
    assert split_classes(manifest, ClassesConfig()) is manifest
    with pytest.raises(DataError, match="8 classes cannot give 4 to validate on, 4 to test on"):
        split_classes(manifest, ClassesConfig(n_valid=4, n_test=4))


def test_a_class_of_the_split_without_clips_is_named(train, tmp_path):
    split = write_split(tmp_path / "other.json", val=("b", "yak"))
    code, _, err = train("--classes.split", split)
    assert code == 2 and "1 classes of the split have no clip, such as yak" in err


def test_clips_of_several_classes_are_refused(train, manifest, tmp_path):
    mixed = replace(manifest.entries[0], labels=("7", "300"))
    folder = write_manifest(replace(manifest, entries=(mixed, *manifest.entries[1:])), tmp_path / "mixed")
    code, _, err = train(data=folder)
    assert code == 2 and "0-0 has 2 labels: an episode needs clips of one class each" in err
    with pytest.raises(DataError, match="0-0 has 2 labels"):
        found_in(folder, ClassesConfig(), tmp_path)


def test_a_part_without_clips_says_what_there_is(clips, tmp_path):
    with pytest.raises(DataError, match="has no clip of split test: there are 48 train; 8 classes"):
        found_in(clips, ClassesConfig(), tmp_path, ("test", "train"))


def test_what_cannot_give_episodes_is_said_before_clips_are_read(clips, split, tmp_path):
    found = found_in(clips, ClassesConfig(split=str(split)), tmp_path)
    check_episodes(found, EpisodesConfig(3, 1, 5, valid_n_way=2))
    check_episodes(found, EpisodesConfig(3, 1, 1, valid=0))  # nothing is validated on
    with pytest.raises(DataError, match="3-way 1-shot 1-query needs 3 classes, but the validation part has 2"):
        check_episodes(found, EpisodesConfig(3, 1, 1))


def test_validation_takes_the_shape_of_training_unless_it_is_given_one():
    assert shapes(EpisodesConfig(5, 2, 3)) == (EpisodeShape(5, 2, 3), EpisodeShape(5, 2, 3))
    assert shapes(EpisodesConfig(5, 2, 3, valid_n_way=4, valid_n_query=1))[1] == EpisodeShape(4, 2, 1)
    with pytest.raises(ValueError, match="k_shot of an episode must be at least 1, got 0"):
        shapes(EpisodesConfig(5, 2, 3, valid_k_shot=0))


def test_the_augmentation_of_waveforms_goes_by_the_data_set_or_by_the_clips(manifest):
    pytest.importorskip("audiomentations")
    named = find_spectrum(ViewsConfig(kind="waveform", data="nsynth"), manifest, 0)
    measured = find_spectrum(ViewsConfig(kind="waveform"), manifest, 0)
    assert (named.centroid, named.bandwidth, named.flatness) == (1294.0, 961.0, 0.224) and measured != named
    views = make_views(ViewsConfig(kind="waveform", reversal=0.3, aug_num=2, test_query=True), measured, testing=True)
    assert views.of_waveforms.augmentation.facts == measured and views.of_waveforms.augmentation.reversal == 0.3
    assert views.of_waveforms.n_views == 3 and views.support and views.query
    assert find_spectrum(ViewsConfig(kind="spec"), manifest, 0) is None
