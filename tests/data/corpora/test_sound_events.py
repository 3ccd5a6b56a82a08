from __future__ import annotations

import numpy as np
import pytest

from tome_audio.data.corpora.sound_events import CLASSES, SYNTHS, make_corpus, make_sound_event


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_gives_a_finite_clip_of_the_right_length_and_level(label):
    for seed in range(5):
        clip = make_sound_event(label, rng(seed), sample_rate=16000, seconds=0.7)
        assert clip.shape == (11200,) and clip.dtype == np.float32
        assert 0.04 < np.abs(clip).max() <= 0.9001  # NaN fails too


@pytest.mark.parametrize("label", CLASSES)
def test_same_generator_state_same_clip_other_state_other_clip(label):
    first = make_sound_event(label, rng(3))
    assert np.array_equal(first, make_sound_event(label, rng(3)))
    assert not np.array_equal(first, make_sound_event(label, rng(4)))


@pytest.mark.parametrize(("rate", "seconds"), [(8000, 0.1), (22050, 1.0), (44100, 0.333)])
def test_other_rates_and_lengths(rate, seconds):
    for label in CLASSES:
        clip = make_sound_event(label, rng(), rate, seconds)
        assert len(clip) == round(rate * seconds) and np.isfinite(clip).all()


def test_there_are_ten_classes():
    assert len(CLASSES) == len(set(CLASSES)) == 10


def test_corpus_is_balanced_and_labelled_in_order():
    waveforms, labels = make_corpus(3, seed=0, seconds=0.2)
    assert labels == list(CLASSES) * 3
    assert len(waveforms) == 30


def test_corpus_is_deterministic_and_a_larger_one_begins_with_the_smaller():
    small, _ = make_corpus(2, seed=5, seconds=0.2)
    large, _ = make_corpus(3, seed=5, seconds=0.2)
    assert all(np.array_equal(a, b) for a, b in zip(small, large, strict=False))


def test_corpora_of_two_seeds_share_no_clip():
    a, _ = make_corpus(3, seed=0, seconds=0.2)
    b, _ = make_corpus(3, seed=1, seconds=0.2)
    assert not any(np.array_equal(x, y) for x in a for y in b)


@pytest.mark.parametrize(("label", "direction"), [("chirp_up", 1), ("chirp_down", -1)])
def test_chirps_rise_and_fall(label, direction):
    for seed in range(10):
        event = SYNTHS[label](rng(seed), 16000, 16000)
        frames = event[: 31 * 512].reshape(31, 512) * np.hanning(512)
        pitch = np.abs(np.fft.rfft(frames, 4096)).argmax(1) * direction
        assert (np.diff(pitch) >= 0).all() and pitch[-1] > pitch[0]


def test_noise_is_sometimes_louder_than_the_event_and_sometimes_far_below():
    # A warble is all above 1.9 kHz: the part of the power there follows the signal-to-noise ratio.
    parts = []
    for seed in range(100):
        power = np.abs(np.fft.rfft(make_sound_event("warble", rng(seed)))) ** 2
        parts.append(power[1900:].sum() / power.sum())
    assert min(parts) < 0.6 and max(parts) > 0.95


def test_unknown_class_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown sound event 'dog': choose one of siren, "):
        make_sound_event("dog", rng())


def test_too_short_a_clip_is_refused():
    with pytest.raises(ValueError, match=r"at least 0\.1 seconds, got 0\.01"):
        make_sound_event("bell", rng(), seconds=0.01)


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="n_per_class must be at least 1, got 0"):
        make_corpus(0)
