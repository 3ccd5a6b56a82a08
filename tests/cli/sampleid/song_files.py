"""Songs of a few notes that sample records of a few notes: quick to make, easy to tell apart."""

from __future__ import annotations

import numpy as np
import soundfile
from melodies import RATE as RATE_OF_MELODIES
from melodies import melody, save

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


def write_melody_world(folder, seed=0, parts=("test",), seconds=12):
    """Per part three songs of melodies, two of which sample another one; two originals and two distractors."""
    tracks, occurrences = {}, []
    song_start, original_start, length = seconds / 6, seconds / 3, seconds / 2
    for number, part in enumerate(parts):
        first = seed + 100 * number

        def add(name, role, samples, part=part):
            path = folder / "audio" / part / f"{part}-{name}.flac"
            save(path, samples, RATE_OF_MELODIES)
            tracks[f"{part}-{name}"] = Track(f"{part}-{name}", path, part, role, len(samples) / RATE_OF_MELODIES)

        for i in range(2):
            add(f"o{i}", "original", melody(first + i, seconds))
            add(f"d{i}", "distractor", melody(first + 10 + i, seconds))
            song, begin = melody(first + 20 + i, seconds), round(song_start * RATE_OF_MELODIES)
            sample = melody(first + i, length, start=original_start, semitones=2 * i)
            song[begin : begin + len(sample)] = sample
            add(f"s{i}", "song", song)
            places = (song_start, song_start + length, original_start, original_start + length)
            occurrences.append(Occurrence(f"{part}-s{i}", f"{part}-o{i}", *places, 2.0 * i, 1.0))
        add("clean", "song", melody(first + 30, seconds))
    write_sample_table(SampleTable(tracks, tuple(occurrences)), folder)
    return folder
