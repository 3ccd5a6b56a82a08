"""Songs as clips to classify by the record that they sample, some of them kept from training."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest, sorted_labels
from tome_audio.data.sample_tables import SampleTable, Track

UNSEEN = "test"
"""Split of the songs that are kept from training."""


def song_manifest(table: SampleTable, *, unseen: float = 0.34, seed: int = 0) -> Manifest:
    """Make a manifest of the songs that have audio and a sample, each labelled with the record that it samples.

    A song has one label: the first record that the table gives it. Where songs of split train and of another split
    sample the same records, those of the other splits are unseen, and a song whose record no training song samples is
    left out. Otherwise unseen songs are drawn from every record that two or more songs sample, one at least, and never
    all of them.

    Args:
        table: With the paths of its audio.
        unseen: Part of a record's songs that is kept from training, in [0, 1); 0 keeps none.
        seed: Of the draw.

    Raises:
        DataError: `unseen` is out of range, or fewer than two records are left to tell apart.
    """
    if not 0 <= unseen < 1:
        raise DataError(f"unseen must be a part of the songs in [0, 1), got {unseen}")
    songs = [(track, table.originals_of(track.id)[0]) for track in _songs(table)]
    if apart := _apart_by_split(songs):
        songs = [(track, label) for track, label in songs if track.id not in apart or label in _labels(songs, apart)]
    elif unseen:
        apart = _drawn_apart(songs, unseen, seed)
    entries = tuple(
        Entry(track.id, track.path, (label,), UNSEEN if track.id in apart else "train", source=track.id)
        for track, label in songs
        if track.path is not None
    )
    labels = sorted_labels(entries)
    if len(labels) < 2:
        raise DataError(
            f"the songs with audio sample {len(labels)} records: give songs of at least two, to be told apart"
        )
    return Manifest(entries, labels, _names(table, labels))


def _names(table: SampleTable, labels: tuple[str, ...]) -> tuple[str, ...]:
    # Artist and title of a record where they tell it from the others, else its id.
    names = [" - ".join(filter(None, (table.tracks[label].artist, table.tracks[label].title))) for label in labels]
    return tuple(name if name and names.count(name) == 1 else label for name, label in zip(names, labels, strict=True))


def _songs(table: SampleTable) -> list[Track]:
    return [track for track in table.songs() if track.path is not None and table.originals_of(track.id)]


def _labels(songs: list[tuple[Track, str]], apart: set[str]) -> set[str]:
    return {label for track, label in songs if track.id not in apart}


def _apart_by_split(songs: list[tuple[Track, str]]) -> set[str]:
    # Songs outside split train, if some of their records are sampled in train too.
    others = {track.id for track, _ in songs if track.part not in (None, "train")}
    trained = _labels(songs, others)
    return others if any(label in trained for track, label in songs if track.id in others) else set()


def _drawn_apart(songs: list[tuple[Track, str]], unseen: float, seed: int) -> set[str]:
    of_label: dict[str, list[str]] = defaultdict(list)
    for track, label in songs:
        of_label[label].append(track.id)
    rng, apart = np.random.default_rng(seed), set()
    for label in sorted(of_label):
        own = sorted(of_label[label])
        if len(own) > 1:
            count = min(len(own) - 1, max(1, round(unseen * len(own))))
            apart.update(rng.permutation(own)[:count].tolist())
    return apart
