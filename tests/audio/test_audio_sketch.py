"""Sketches: what stands out, not what is even; the same in parts as in whole."""

import numpy as np
import pytest
import torch

from tome_audio.audio.sketch import FRONT_END, HOP, MARGIN, sketch

POWER = torch.rand(60, 160, generator=torch.Generator().manual_seed(0)) ** 4


def test_against_a_plain_loop():
    halved = POWER.double().numpy().reshape(30, 2, 80, 2).mean((1, 3))
    decibels = 10 * np.log10(np.maximum(halved, 1e-7))
    expected = np.zeros((30, 80))
    for t in range(30):
        for f in range(80):
            around = decibels[max(0, t - 10) : t + 11, max(0, f - 6) : f + 7].mean()
            expected[t, f] = min(max(decibels[t, f] - around, 0), 20) * 255 / 20
    found = sketch(POWER)
    assert found.dtype == torch.uint8 and found.shape == (30, 80)
    assert np.abs(found.numpy().astype(float) - expected).max() <= 0.51


def test_what_is_even_falls_out():
    assert sketch(torch.full((40, 160), 0.3)).eq(0).all()
    torch.testing.assert_close(sketch(POWER * 0.1).int(), sketch(POWER).int(), atol=1, rtol=0)  # softer


def test_a_part_is_as_in_the_whole():
    waveform = 0.1 * torch.randn(12 * 16000, generator=torch.Generator().manual_seed(1))
    whole = sketch(FRONT_END.power(waveform))
    first, margin = 20, int(MARGIN * 16000 / HOP) + 1
    part = sketch(FRONT_END.power(waveform[first * HOP :]))
    inner = slice(margin, len(part) - margin)
    difference = (part[inner].int() - whole[first : first + len(part)][inner].int()).abs()
    assert difference.max() <= 1 and whole.float().std() > 5


def test_too_little_is_nothing_and_no_power_is_an_error():
    assert sketch(POWER[:1]).shape == (0, 80)
    with pytest.raises(ValueError, match="power"):
        sketch(POWER[0])
