"""Sample flips: what the tables say is what is in the audio."""

from itertools import pairwise

import numpy as np
import pytest

from tome_audio.songs.bending import bent
from tome_audio.songs.finishing import draw_equaliser, loudness
from tome_audio.songs.flips import (
    Flip,
    FlipOptions,
    Music,
    Span,
    draw_flip,
    draw_spans,
    flipped,
    mastered,
    overlaid,
)
from tome_audio.songs.harmony import Key
from tome_audio.songs.material import fitting

pytest.importorskip("python_stretch")
pytest.importorskip("soxr")

RATE = 16000
BENDS = [(0.0, 1.5), (4.3, 1.0), (-6.0, 0.7), (5.5, 0.8), (-2.0, 1.3), (12.0, 0.81), (-12.0, 1.24)]


def rng(*numbers):
    return np.random.default_rng(numbers)


def noise(seconds, seed=0, level=0.1):
    return (level * rng(99, seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def sine(seconds, hertz):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


# pitch and tempo


@pytest.mark.parametrize(("semitones", "tempo_ratio"), BENDS)
def test_pitch_and_tempo_change_apart_from_each_other(semitones, tempo_ratio):
    for hertz in (60, 440):
        out = bent(sine(4, hertz), RATE, semitones, tempo_ratio)
        assert len(out) == round(4 * RATE / tempo_ratio) and out.dtype == np.float32
        power = np.abs(np.fft.rfft(out * np.hanning(len(out)), 64 * RATE))
        found = 12 * np.log2(power.argmax() / 64 / hertz)
        assert found == pytest.approx(semitones, abs=0.02)


@pytest.mark.parametrize(("semitones", "tempo_ratio"), BENDS)
def test_a_click_stays_where_the_tempo_puts_it(semitones, tempo_ratio):
    clicks = np.zeros(4 * RATE, np.float32)
    clicks[RATE], clicks[3 * RATE] = 1, 1
    power = bent(clicks, RATE, semitones, tempo_ratio) ** 2
    for second in (1, 3):
        around = np.arange(round((second - 0.5) / tempo_ratio * RATE), round((second + 0.5) / tempo_ratio * RATE))
        found = (around * power[around]).sum() / power[around].sum() / RATE
        assert found == pytest.approx(second / tempo_ratio, abs=0.01)


def test_nothing_to_change_changes_nothing():
    before = noise(1)
    after = bent(before, RATE, 0.0, 1.0)
    np.testing.assert_array_equal(before, after)
    assert after is not before


@pytest.mark.parametrize(
    ("semitones", "tempo_ratio"), [(30.0, 1.0), (0.0, 0.1), (float("nan"), 1.0), (0.0, 5.0), (12.0, 0.5)]
)
def test_changes_out_of_range_are_refused(semitones, tempo_ratio):
    with pytest.raises(ValueError, match=r"must be between|by more than 2\.5"):
        bent(noise(1), RATE, semitones, tempo_ratio)


# one repetition


@pytest.mark.parametrize(("semitones", "tempo_ratio"), [(0.0, 1.0), (3.0, 0.8), (-4.0, 1.4)])
def test_a_repetition_is_the_cut_and_nothing_else(semitones, tempo_ratio):
    original = noise(6, level=0.01)
    original[2 * RATE : 2 * RATE + 400] += sine(0.025, 1000)  # half a second after the cut begins
    flip = Flip(1.5, 4.0, semitones, tempo_ratio, 0.0, None)
    piece = flipped(original, flip, RATE)
    assert len(piece) == round(2.5 / tempo_ratio * RATE) and flip.seconds == pytest.approx(2.5 / tempo_ratio)
    power = np.convolve(piece**2, np.ones(400), "same")
    assert power.argmax() / RATE == pytest.approx(0.5125 / tempo_ratio, abs=0.03)
    assert piece[0] == 0 and piece[-1] == 0


def test_a_cut_at_the_edges_of_the_original_keeps_its_length():
    original = noise(3)
    for flip in (Flip(0.0, 3.0, 2.0, 1.2, 0.0, None), Flip(0.1, 2.95, -2.0, 0.9, 0.0, None)):
        piece = flipped(original, flip, RATE)
        assert len(piece) == round(flip.seconds * RATE)
        assert loudness(piece[: RATE // 5], RATE) > 0.5 * loudness(piece, RATE)
        assert loudness(piece[-RATE // 5 :], RATE) > 0.5 * loudness(piece, RATE)


# laid over a song


def test_overlaid_alone_is_a_plain_sum():
    others, original = noise(8, 1), noise(6, 2)
    flip = Flip(1.0, 3.0, 0.0, 1.0, -3.0, None)
    spans = (Span(2.0, 4.0, 1.0, 3.0), Span(4.0, 6.0, 1.0, 3.0))
    laid = overlaid(others, original, flip, spans, RATE) - others
    assert not laid[: 2 * RATE].any() and not laid[6 * RATE :].any()
    inner = slice(2 * RATE + 100, 4 * RATE - 100)
    scale = laid[inner] @ original[RATE + 100 : 3 * RATE - 100] / (original[RATE + 100 : 3 * RATE - 100] ** 2).sum()
    np.testing.assert_allclose(laid[inner], scale * original[RATE + 100 : 3 * RATE - 100], atol=1e-5)
    np.testing.assert_allclose(laid[2 * RATE : 4 * RATE], laid[4 * RATE : 6 * RATE], atol=1e-5)


@pytest.mark.parametrize("level", [-6.0, 0.0, 6.0])
def test_the_level_holds_where_the_sample_is(level):
    others, original = noise(8, 1), noise(6, 2, level=0.03)
    others[: 2 * RATE] *= 10  # not where the sample is
    flip = Flip(1.0, 3.0, 0.0, 1.0, level, draw_equaliser(rng(1), 10.0))
    span = Span(4.0, 6.0, 1.0, 3.0)
    laid = (overlaid(others, original, flip, (span,), RATE) - others)[4 * RATE : 6 * RATE]
    assert 20 * np.log10(laid.std() / others[4 * RATE : 6 * RATE].std()) == pytest.approx(level, abs=0.2)


def test_a_sample_sounds_where_nothing_else_does_and_silence_is_no_sample():
    others, original = noise(8, 1), noise(6, 2)
    others[4 * RATE :] = 0
    flip = Flip(1.0, 3.0, 0.0, 1.0, 0.0, None)
    out = overlaid(others, original, flip, (Span(5.0, 7.0, 1.0, 3.0),), RATE)
    assert loudness(out[5 * RATE : 7 * RATE], RATE) == pytest.approx(loudness(others, RATE), rel=0.1)
    with pytest.raises(ValueError, match="silent from"):
        overlaid(others, np.zeros_like(original), flip, (Span(5.0, 7.0, 1.0, 3.0),), RATE)


def test_masters_do_not_clip_and_differ_in_level():
    peaks = [float(np.abs(mastered(rng(3, n), noise(5, n, 3.0), RATE)).max()) for n in range(20)]
    assert max(peaks) < 0.9 and min(peaks) > 0.5 and np.std(peaks) > 0.05
    faded = [mastered(rng(3, n), np.ones(5 * RATE, np.float32), RATE) for n in range(40)]
    edges = [(x[0] < x[2 * RATE], x[-1] < x[2 * RATE]) for x in faded]
    assert any(a for a, _ in edges) and any(b for _, b in edges) and (False, False) in edges


# draws


def test_flips_are_drawn_within_their_options():
    options = FlipOptions()
    original = Music(noise(30), tempo=100.0, first_bar=0.7)
    flips = [draw_flip(rng(4, n), options, original, RATE) for n in range(200)]
    assert all(0 <= f.start < f.end <= 30 and 2 - 1e-3 <= f.end - f.start <= 8 + 1e-3 for f in flips)
    for name, (low, high) in {"semitones": (-6, 6), "tempo_ratio": (0.7, 1.5), "level_db": (-3, 6)}.items():
        drawn = [getattr(f, name) for f in flips]
        assert low <= min(drawn) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(drawn) <= high
    on_the_beat = [abs(((f.start - 0.7) / 0.6) % 1 - 0.5) > 0.49 for f in flips]
    assert 0.6 < np.mean(on_the_beat) < 0.8
    beats = [(f.end - f.start) / 0.6 for f, on in zip(flips, on_the_beat, strict=True) if on]
    assert np.mean([abs(b - round(b)) < 0.01 for b in beats]) > 0.9


def test_options_without_change_leave_the_sample_as_it_is():
    options = FlipOptions(semitones=(0, 0), tempo_ratio=(1, 1), equaliser_db=0, loops=1, throughout=0, level_db=(-6, 0))
    for n in range(20):
        flip = draw_flip(rng(5, n), options, Music(noise(10)), RATE)
        assert (flip.semitones, flip.tempo_ratio, flip.equaliser) == (0, 1, None) and -6 <= flip.level_db <= 0
        assert len(draw_spans(rng(6, n), options, flip, Music(noise(20)), 0, 20)) == 1


def test_what_is_cut_sounds_and_a_short_original_is_taken_whole():
    original = np.zeros(30 * RATE, np.float32)
    original[20 * RATE : 26 * RATE] = noise(6)
    heard = [draw_flip(rng(7, n), FlipOptions(), Music(original), RATE) for n in range(40)]
    assert np.mean([f.start < 26 and f.end > 20 for f in heard]) > 0.85
    short = draw_flip(rng(8), FlipOptions(), Music(noise(1.0)), RATE)
    assert (short.start, short.end) == (0.0, 1.0)


def test_spans_follow_each_other_and_say_what_they_hold():
    options, song = FlipOptions(loops=5), Music(noise(30), tempo=120.0, first_bar=0.3)
    counts, cut_short, begins = set(), 0, []
    for n in range(200):
        flip = draw_flip(rng(9, n), options, Music(noise(20)), RATE)
        spans = draw_spans(rng(10, n), options, flip, song, 0.0, 30.0)
        assert spans[0].song_start >= 0 and spans[-1].song_end <= 30 + 1e-9
        for span, after in pairwise(spans):
            assert span.song_end == pytest.approx(after.song_start)
        for span in spans:
            assert span.original_start == flip.start and span.original_end <= flip.end
            played = (span.original_end - span.original_start) / flip.tempo_ratio
            assert played == pytest.approx(span.song_end - span.song_start, abs=1e-6) and played >= 0.499
        counts.add(len(spans))
        cut_short += spans[-1].original_end < flip.end - 1e-6
        begins.append(((spans[0].song_start - 0.3) / 0.5) % 1)
    assert {1, 2, 3, 4, 5} <= counts and max(counts) > 5  # those go on throughout
    assert 0 < cut_short < 150
    assert 0.6 < np.mean([min(b, 1 - b) < 1e-6 for b in begins]) < 0.85


def test_spans_stay_within_the_part_of_the_song_they_are_given():
    flip = Flip(0.0, 4.0, 0.0, 0.8, 0.0, None)
    for n in range(50):
        spans = draw_spans(rng(11, n), FlipOptions(), flip, Music(noise(30), tempo=90.0), 15.0, 30.0)
        assert spans[0].song_start >= 15 - 1e-9 and spans[-1].song_end <= 30 + 1e-9


def test_a_fitting_song_has_the_tempo_and_key_of_the_bent_sample():
    original = Music(noise(3), tempo=150.0, key=Key(11, "minor"), tuning=0.4)
    tempo, key, tuning = fitting(original, Flip(0, 2, 2.3, 1.4, 0, None))
    assert tempo == pytest.approx(105.0) and key == Key(2, "minor") and tuning == pytest.approx(-0.3)
    assert fitting(Music(noise(3)), Flip(0, 2, 2.3, 1.4, 0, None)) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": (3.0, 2.0)}, "flip.seconds must be a range"),
        ({"semitones": (-30, 0)}, "flip.semitones must be a range"),
        ({"tempo_ratio": (0.0, 1.0)}, "flip.tempo_ratio must be a range"),
        ({"level_db": (float("nan"), 1.0)}, "flip.level_db must be a range"),
        ({"semitones": (-12, 12), "tempo_ratio": (0.5, 2)}, "by more than 2.5"),
        ({"loops": 0}, "flip.loops must be at least 1"),
        ({"throughout": 1.5}, "flip.throughout must be between 0 and 1"),
        ({"equaliser_db": -1.0}, "flip.equaliser_db must be between"),
    ],
)
def test_options_that_make_no_sense_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        FlipOptions(**options)
