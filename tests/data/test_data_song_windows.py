"""Songs cut into windows on disk: where they begin, what they hold, what is written again."""

import os

import numpy as np
import pytest
import soundfile
import torch
from clip_files import RATE, write_bad_clips, write_clip

from tome_audio.audio import read_audio
from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.song_windows import window_starts, write_windows


def songs_of(*paths):
    entries = [Entry(path.stem, path, (("x", "y")[i % 2],), "train") for i, path in enumerate(paths)]
    return Manifest(tuple(entries), ("x", "y"))


@pytest.mark.parametrize(
    ("n_samples", "wanted"),
    [(1, [0]), (10, [0]), (11, [0, 1]), (15, [0, 5]), (17, [0, 5, 7]), (20, [0, 5, 10])],
)
def test_windows_begin_every_hop_and_the_last_one_ends_with_the_song(n_samples, wanted):
    assert window_starts(n_samples, 10, 5) == wanted


def test_windows_need_sizes():
    for sizes in ((0, 10, 5), (10, 0, 5), (10, 10, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            window_starts(*sizes)


def test_windows_are_parts_of_their_song(tmp_path):
    long, short = write_clip(tmp_path / "long.flac", 2.3, seed=1), write_clip(tmp_path / "short.flac", 0.7, seed=2)
    done = []
    found = write_windows(songs_of(long, short), tmp_path / "w", length=RATE, hop=RATE // 2, on_song=done.append)
    assert [entry.id for entry in found.manifest.entries] == ["long@0", "long@0.5", "long@1", "long@1.3", "short@0"]
    assert [entry.labels[0] for entry in found.manifest.entries] == ["x", "x", "x", "x", "y"] and done == [1, 2]
    assert [entry.duration for entry in found.manifest.entries] == [1, 1, 1, 1, 0.7] and not found.problems
    whole = read_audio(long)
    for entry, start in zip(found.manifest.entries, (0, 8000, 16000, 20800), strict=False):
        torch.testing.assert_close(read_audio(entry.path), whole[start : start + RATE], rtol=0, atol=2**-15)
    ids, song = found.songs()
    assert ids == ("long", "short") and song.tolist() == [0, 0, 0, 0, 1]


def test_windows_that_are_there_stay_and_those_of_a_changed_song_do_not(tmp_path):
    song = write_clip(tmp_path / "song.flac", 1.5)
    (first, *_), second = (
        write_windows(songs_of(song), tmp_path / "w", length=RATE, hop=RATE).manifest.entries for _ in range(2)
    )
    assert first.path == second[0].path
    marked = first.path.stat().st_mtime_ns
    write_windows(songs_of(song), tmp_path / "w", length=RATE, hop=RATE)
    assert first.path.stat().st_mtime_ns == marked
    write_clip(song, 1.5, seed=9)
    os.utime(song, ns=(marked + 10**9, marked + 10**9))
    write_windows(songs_of(song), tmp_path / "w", length=RATE, hop=RATE)
    torch.testing.assert_close(read_audio(first.path), read_audio(song)[:RATE], rtol=0, atol=2**-15)


def test_silent_windows_are_left_out_and_unusable_songs_named(tmp_path):
    half = tmp_path / "half.flac"
    soundfile.write(half, np.concatenate([np.full(RATE, 0.1), np.zeros(RATE)]), RATE)
    silent = tmp_path / "silent.flac"
    soundfile.write(silent, np.zeros(RATE), RATE)
    bad = write_bad_clips(tmp_path / "bad")
    entries = tuple(Entry(str(i), path, ("x",), "train") for i, path in enumerate((half, silent, *bad.values())))
    found = write_windows(Manifest(entries, ("x", "y")), tmp_path / "w", length=RATE, hop=RATE)
    assert [entry.id for entry in found.manifest.entries] == ["0@0"]
    assert len(found.problems) == len(bad) + 1
    for path in (silent, *bad.values()):
        assert any(problem.startswith(str(path)) for problem in found.problems), path
    with pytest.raises(DataError, match="none of 1 songs can be used"):
        write_windows(songs_of(silent), tmp_path / "w", length=RATE, hop=RATE)


def test_an_id_cannot_lead_out_of_the_folder(tmp_path):
    song = write_clip(tmp_path / "song.flac", 1.0)
    songs = Manifest((Entry("../../out", song, ("x",), "train"),), ("x", "y"))
    with pytest.raises(DataError, match="leads out of"):
        write_windows(songs, tmp_path / "w" / "v", length=RATE, hop=RATE)
    assert not list(tmp_path.glob("out*"))
