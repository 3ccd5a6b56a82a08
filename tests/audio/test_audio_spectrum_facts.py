from __future__ import annotations

import math

import pytest
import torch

from tome_audio.audio import SPECTRUM_FACTS, SpectrumFacts, spectrum_facts

librosa = pytest.importorskip("librosa", reason="librosa is the reference")


def noise(n: int = 16000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_equal_to_librosa():
    clip = noise().cumsum(0) + noise(seed=1)
    samples, same = clip.numpy(), {"n_fft": 2048, "hop_length": 512}
    wanted = [
        librosa.feature.spectral_centroid(y=samples, sr=16000, **same).mean(),
        librosa.feature.spectral_bandwidth(y=samples, sr=16000, **same).mean(),
        librosa.feature.spectral_flatness(y=samples, **same).mean(),
    ]
    facts = spectrum_facts([clip])
    assert [facts.centroid, facts.bandwidth, facts.flatness] == pytest.approx(wanted, rel=1e-3)


def test_what_a_tone_and_white_noise_are():
    tone = spectrum_facts(torch.sin(2 * math.pi * 1000 / 16000 * torch.arange(16000))[None])
    white = spectrum_facts([noise(16000)])
    assert abs(tone.centroid - 1000) < 100 and tone.flatness < 0.02
    assert abs(white.centroid - 4000) < 200 and white.flatness > 0.4 and white.bandwidth > 2000


def test_the_rate_is_that_of_the_hz():
    at_16, at_8 = spectrum_facts([noise()]), spectrum_facts([noise()], sample_rate=8000)
    assert at_8.centroid == pytest.approx(at_16.centroid / 2)


def test_silence_does_not_count():
    alone = spectrum_facts([noise(16000)])
    padded = spectrum_facts([noise(16000), torch.zeros(9000), torch.zeros(1)])
    assert padded == alone


def test_clips_of_any_length():
    facts = spectrum_facts([noise(1), noise(100), noise(20000)])
    assert facts.centroid > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrum_facts(torch.zeros(2, 4000)), "all clips are silent"),
        (lambda: spectrum_facts([]), "no waveforms"),
        (lambda: spectrum_facts([noise(), torch.full((9,), math.nan)]), "waveform 1 holds NaN or infinite samples"),
        (lambda: SpectrumFacts(0.0, 1.0, 0.1), "the centroid must be a positive .* got 0.0 and 1.0"),
        (lambda: SpectrumFacts(100.0, math.nan, 0.1), "bandwidth a non-negative number"),
        (lambda: SpectrumFacts(100.0, 1.0, 1.1), r"the flatness must be in \[0, 1\], got 1.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_published_facts():
    assert SPECTRUM_FACTS["esc50"] == SpectrumFacts(1191.0, 1669.0, 0.144)
    assert sorted(SPECTRUM_FACTS) == ["birdclef", "esc50", "fsd", "nsynth"]
