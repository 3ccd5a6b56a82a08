"""The front end of sample identification: tones land on their bins, loudness does not count, bad input is named."""

import numpy as np
import pytest
import torch

from tome_audio.audio.vqt import VqtFrontEnd, peak_normalised

FRONT_END = VqtFrontEnd()


def tone(hz, seconds=2.0):
    return 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * 16000)) / 16000)


@pytest.mark.parametrize("semitones", [0, 7, 24, 50])
def test_a_tone_is_loudest_on_its_own_bin(semitones):
    power = FRONT_END.power(tone(FRONT_END.fmin * 2 ** (semitones / 12)))
    assert power.shape == (1 + 32000 // 768, 160)
    assert int(power[10:-10].mean(0).argmax()) == 2 * semitones


def test_frame_i_is_about_sample_i_times_hop():
    click = torch.zeros(32000)
    click[20 * 768] = 1.0
    assert int(FRONT_END.power(click)[:, 100:].sum(1).argmax()) == 20


def test_a_stretch_gives_the_frames_that_the_whole_gives():
    song = torch.from_numpy(np.random.default_rng(0).standard_normal(6 * 16000).astype(np.float32))
    whole = FRONT_END.power(song)
    first = 40  # frames, a whole number of hops
    part = FRONT_END.power(song[first * 768 :])
    margin = 11  # frames: the half second that embedders promise
    torch.testing.assert_close(part[margin:60], whole[first + margin : first + 60], rtol=1e-3, atol=1e-6)


def test_decibels_below_the_peak_whatever_the_level():
    power = torch.rand(3, 20, 16) + 1e-3
    found = peak_normalised(power)
    assert found.amax((-2, -1)).eq(1).all() and found.min() >= -1
    torch.testing.assert_close(peak_normalised(power * 1e-4), found)
    expected = (
        1 + np.maximum(10 * np.log10(power.double().numpy() / power.double().amax((1, 2), True).numpy()), -60) / 30
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_silence_is_the_floor():
    assert peak_normalised(FRONT_END.power(torch.zeros(8000))).eq(-1).all()


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (torch.zeros(2, 100), "waveform"),
        (torch.zeros(100, dtype=torch.int16), "waveform"),
        (torch.zeros(0), "waveform"),
        (torch.tensor([0.0, float("nan")]), "NaN"),
    ],
)
def test_bad_waveforms_are_named(waveform, said):
    with pytest.raises(ValueError, match=said):
        FRONT_END.power(waveform)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"n_bins": 200}, "half"), ({"hop": 700}, "multiple"), ({"n_bins": 0}, "n_bins"), ({"fmin": 0.0}, "fmin")],
)
def test_settings_that_do_not_fit_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        VqtFrontEnd(**settings)
