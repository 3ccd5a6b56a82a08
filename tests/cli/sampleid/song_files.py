"""Songs of a few notes that sample records of a few notes: quick to make, easy to tell apart."""

from __future__ import annotations

import numpy as np
import soundfile

from tome_audio.data.sample_tables import Occurrence, SampleTable, Track, write_sample_table

RATE = 16000


def notes(seed, seconds, low=200, high=3000):
    """Noise that changes every tenth of a second between a few pitches of its own: a record to sample."""
    rng = np.random.default_rng(seed)
    pitches = rng.uniform(low, high, 5)
    time = np.arange(RATE // 10) / RATE
    parts = [np.sin(2 * np.pi * rng.choice(pitches) * time) for _ in range(round(seconds * 10))]
    return 0.4 * np.concatenate(parts) + 0.01 * rng.standard_normal(len(parts) * len(time))


def write_song(path, record, at, seconds, seed):
    """A song of soft noise in which two seconds of a record are heard from `at` seconds on."""
    rng = np.random.default_rng([7, seed])
    song = 0.02 * rng.standard_normal(round(seconds * RATE))
    if record is not None:
        cut = record[: 2 * RATE]
        song[round(at * RATE) : round(at * RATE) + len(cut)] += cut
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, song, RATE)


def write_closed_set_world(folder, n_originals=3, n_songs=3, seconds=3.0):
    """A world of several songs per record, all sampling its first seconds."""
    tracks, occurrences = {}, []
    for i in range(n_originals):
        record = notes(i, 3.0)
        tracks[f"o{i}"] = Track(f"o{i}", None, None, "original")
        for j in range(n_songs):
            name, path = f"s{i}{j}", folder / "audio" / f"s{i}{j}.flac"
            write_song(path, record, 0.0, seconds, 10 * i + j)
            tracks[name] = Track(name, path, None, "song")
            occurrences.append(Occurrence(name, f"o{i}", 0.0, 2.0, 0.0, 2.0))
    write_sample_table(SampleTable(tracks, tuple(occurrences)), folder)
    return folder
