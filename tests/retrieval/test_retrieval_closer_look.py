"""Alignment in the place where it is used: drawn songs, a sample changed in the waveform, and the exact truth."""

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

from tome_audio.retrieval import AlignOptions, ExactSearch, SampleIndex, identify
from tome_audio.retrieval.sketches import ROWS_PER_SECOND, sketch_file
from tome_audio.songs.bending import bent
from tome_audio.songs.song import make_song

pytest.importorskip("librosa")
pytest.importorskip("python_stretch")
RATE = 16000


class Deaf:
    """An embedder for which everything is nearly alike: what is found is found by alignment."""

    sample_rate, window, hop, frame_hop, margin = RATE, 5.0, 2.5, 1600, 0.0
    variant_facts = ((0.0, 1.0),)

    def __init__(self):
        self.facts = {"name": "deaf"}

    def frames(self, waveform):
        return waveform[: len(waveform) // 1600 * 1600].unflatten(0, (-1, 1600))

    def embed(self, windows):
        return normalize(torch.stack([torch.ones(len(windows)), windows.abs().mean((1, 2))], 1), dim=-1)

    def variants(self, windows):
        return windows[:, None]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for n in range(8):
        soundfile.write(folder / f"{n}.flac", make_song(np.random.default_rng([1, n]), 14.0).mix(), RATE)
    return {str(n): folder / f"{n}.flac" for n in range(8)}


@pytest.fixture(scope="module")
def index(originals, tmp_path_factory):
    made = SampleIndex.create(tmp_path_factory.mktemp("index") / "index", Deaf())
    assert len(made.add(originals, Deaf()).added) == 8
    return made


def test_the_index_keeps_the_sketch_of_every_file(originals, index):
    kept = index.sketch("3")
    assert torch.equal(kept, sketch_file(originals["3"])) and kept.dtype == torch.uint8
    assert len(kept) == pytest.approx(14 * ROWS_PER_SECOND, abs=2)


def test_a_sketch_does_not_depend_on_the_blocks_it_is_made_in(originals, monkeypatch):
    whole = sketch_file(originals["0"]).int()
    monkeypatch.setattr("tome_audio.retrieval.sketches._BLOCK", 40)
    parts = sketch_file(originals["0"]).int()
    assert parts.shape == whole.shape and (parts - whole).abs().max() <= 1


def test_track_place_transposition_and_tempo(originals, index, tmp_path):
    samples, _ = soundfile.read(originals["5"], dtype="float32")
    begins, semitones, ratio = 3.0, 3.0, 1.2
    sample = bent(samples[int(begins * RATE) : int((begins + 9.6) * RATE)], RATE, semitones, ratio)
    song = make_song(np.random.default_rng([2, 0]), 16.0).mix()
    loud = np.sqrt(np.mean(song**2) / np.mean(sample**2))
    song[4 * RATE : 4 * RATE + len(sample)] += loud * sample
    path = tmp_path / "song.flac"
    soundfile.write(path, 0.9 * song / np.abs(song).max(), RATE)
    options = AlignOptions(every=2.0, n_tempi=9, n_tracks=8)
    found = identify(path, Deaf(), ExactSearch(index.matrix()), align=options, sketch_of=index.sketch)
    assert found.ids[0] == "5" and found.scores[0] > 1.3 * found.scores[1]
    match = found.heard[0].matches[0]
    assert match.semitones == 3 and match.tempo_ratio == pytest.approx(1.2, rel=0.06)
    assert match.original_start == pytest.approx(begins + (match.song_start - 4) * ratio, abs=0.4)
    some = AlignOptions(every=2.0, n_tempi=9, n_tracks=3)
    few = identify(path, Deaf(), ExactSearch(index.matrix()), align=some, sketch_of=index.sketch)
    assert len(few.ids) == 8 and (few.scores[:3] > -10).all() and (few.scores[3:] < -90).all()


def test_alignment_needs_sketches(originals, index):
    with pytest.raises(ValueError, match="sketch_of"):
        identify(originals["0"], Deaf(), ExactSearch(index.matrix()), align=AlignOptions())
