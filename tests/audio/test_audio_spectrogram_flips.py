"""Flips of spectrograms against plain loops, and against what the front end gives for a flipped tone."""

import numpy as np
import pytest
import torch

from tome_audio.audio.spectrogram_flips import equalised, looped, mixed, stretched, transposed
from tome_audio.audio.vqt import VqtFrontEnd

POWER = torch.rand(2, 30, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("semitones", [-20, -3.25, 0, 1.5, 4, 20])
def test_transposed_moves_along_the_bins(semitones):
    shift = semitones * 24 / 12
    expected = np.zeros(POWER.shape)
    for bin_ in range(24):
        place = bin_ - shift
        low = int(np.floor(place))
        for source, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
            if 0 <= source < 24:
                expected[..., bin_] += weight * POWER[..., source].double().numpy()
    np.testing.assert_allclose(transposed(POWER, semitones, 24).numpy(), expected, atol=1e-5)


def test_transposed_is_what_the_front_end_hears():
    front_end = VqtFrontEnd()
    time = torch.arange(32000) / 16000

    def tones(semitones):
        return sum(torch.sin(2 * torch.pi * hz * 2 ** (semitones / 12) * time) for hz in (200.0, 620.0, 1500.0))

    moved = transposed(front_end.power(tones(0)), 3, 24)[10:-10].mean(0)
    heard = front_end.power(tones(3))[10:-10].mean(0)
    assert torch.cosine_similarity(moved, heard, 0) > 0.98


@pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0, 1.37, 2.0])
def test_stretched_reads_between_frames(ratio):
    expected = np.zeros((2, 25, 24))
    for frame in range(25):
        low = int(np.floor(frame * np.float32(ratio)))
        part = frame * np.float32(ratio) - low
        for source, weight in ((low, 1 - part), (low + 1, part)):
            if source < 30:
                expected[:, frame] += weight * POWER[:, source].double().numpy()
    np.testing.assert_allclose(stretched(POWER, ratio, 25).numpy(), expected, atol=1e-5)


def test_looped_begins_again():
    found = looped(POWER[:, :7], 20)
    assert all(torch.equal(found[:, i], POWER[:, i % 7]) for i in range(20))


def test_equalised_is_a_line_between_its_points():
    gains = torch.tensor([6.0, -10.0, 3.0])
    decibels = np.interp(np.arange(24), [0, 11.5, 23], gains.numpy())
    np.testing.assert_allclose(equalised(POWER, gains).numpy(), POWER.numpy() * 10 ** (decibels / 10), rtol=1e-5)


def test_mixed_holds_the_level():
    front, back = POWER[0] * 7, POWER[1] * 0.01
    alone = mixed(front, torch.zeros_like(back), 5.0)
    assert float(10 * torch.log10(alone.mean())) == pytest.approx(5.0, abs=1e-4)
    both = mixed(front, back, 5.0)
    torch.testing.assert_close(both - alone, back / back.mean())


def test_mixed_takes_a_level_for_each_and_leaves_silence_alone():
    levels = torch.tensor([3.0, -3.0])
    found = mixed(POWER, POWER.flip(0), levels)
    torch.testing.assert_close(found[1], mixed(POWER[1], POWER[0], -3.0))
    assert mixed(torch.zeros(4, 5), torch.zeros(4, 5), 0.0).eq(0).all()


@pytest.mark.parametrize(("power", "ratio"), [(POWER, 0.0), (POWER[:, :0], 1.0)])
def test_stretching_nothing_is_an_error(power, ratio):
    with pytest.raises(ValueError, match="tempo ratio"):
        stretched(power, ratio, 10)
