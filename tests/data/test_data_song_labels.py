"""Songs labelled with what they sample: which are kept from training, and what they are called."""

from pathlib import Path

import pytest

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import Occurrence, SampleTable, Track
from tome_audio.data.song_labels import song_manifest


def table_of(songs, parts=None, **originals):
    """A table from {song: records it samples}; every song has audio unless its name says otherwise."""
    tracks = {}
    for name, own in songs.items():
        path = None if name.startswith("mute") else Path(f"{name}.flac")
        tracks[name] = Track(name, path, (parts or {}).get(name), "song")
        for record in own:
            tracks[record] = Track(record, None, None, "original", **originals.get(record, {}))
    pairs = [Occurrence(song, record, 0.0, None, 0.0, None) for song, own in songs.items() for record in own]
    return SampleTable(tracks, tuple(pairs))


def splits(manifest):
    return {entry.id: entry.split for entry in manifest.entries}


def test_a_song_is_labelled_with_its_first_record_and_songs_without_audio_or_sample_are_left_out():
    songs = {"a": ["x", "y"], "b": ["y"], "c": [], "mute": ["x"]}
    found = song_manifest(table_of(songs, x={"artist": "Les", "title": "Day"}), unseen=0)
    assert {entry.id: entry.labels for entry in found.entries} == {"a": ("x",), "b": ("y",)}
    assert found.labels == ("x", "y") and found.names == ("Les - Day", "y")
    assert set(splits(found).values()) == {"train"} and [entry.source for entry in found.entries] == ["a", "b"]


def test_records_of_one_name_go_by_their_ids():
    same = {"artist": "Les", "title": "Day"}
    assert song_manifest(table_of({"a": ["x"], "b": ["y"]}, x=same, y=same), unseen=0).names == ("x", "y")


@pytest.mark.parametrize(("unseen", "kept"), [(0.01, 1), (0.34, 2), (0.5, 3), (0.99, 5)])
def test_unseen_songs_are_drawn_from_records_that_several_songs_sample(unseen, kept):
    songs = {f"s{i}": ["x"] for i in range(6)} | {"alone": ["y"]}
    found = song_manifest(table_of(songs), unseen=unseen, seed=3)
    apart = [name for name, split in splits(found).items() if split == "test"]
    assert len(apart) == kept and "alone" not in apart
    assert splits(song_manifest(table_of(songs), unseen=unseen, seed=3)) == splits(found)
    drawn = {tuple(sorted(splits(song_manifest(table_of(songs), unseen=unseen, seed=s)).items())) for s in range(8)}
    assert len(drawn) > 1


def test_splits_that_share_records_are_taken_as_they_are():
    songs = {"a": ["x"], "b": ["y"], "c": ["x"], "d": ["z"], "e": ["y"]}
    parts = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "valid"}
    found = song_manifest(table_of(songs, parts))
    # Nobody could know z: no training song samples it.
    assert splits(found) == {"a": "train", "b": "train", "c": "test", "e": "test"} and found.labels == ("x", "y")


def test_splits_that_share_nothing_are_one_set_of_songs():
    songs = {"a": ["x"], "b": ["x"], "c": ["y"], "d": ["y"]}
    parts = {"a": "train", "b": "train", "c": "test", "d": "test"}
    found = splits(song_manifest(table_of(songs, parts)))
    assert sorted(found.values()) == ["test", "test", "train", "train"]
    assert found["a"] != found["b"] and found["c"] != found["d"]


def test_what_cannot_be_labelled():
    for songs in ({}, {"a": []}, {"a": ["x"], "b": ["x"]}, {"a": ["x"], "mute": ["y"]}):
        with pytest.raises(DataError, match="at least two"):
            song_manifest(table_of(songs))
    for unseen in (-0.1, 1.0):
        with pytest.raises(DataError, match="unseen"):
            song_manifest(table_of({"a": ["x"], "b": ["y"]}), unseen=unseen)
