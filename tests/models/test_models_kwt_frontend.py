from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import noise

from tome_audio.models import KWTFrontend, load_kwt


def naive(waveform: np.ndarray) -> np.ndarray:
    """Compute the coefficients of one clip from the definitions: FFT, triangles on the mel scale, cosine sum."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    frames = np.stack([waveform[i * 160 : i * 160 + 480] * window for i in range(98)])
    magnitude = np.abs(np.fft.rfft(frames, 512))[:, :244]

    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(20.0), mel(7600.0), 82)
    filters = np.array([np.interp(mel(np.arange(244) * 31.25), edges[i : i + 3], [0, 1, 0]) for i in range(80)])
    filters[:, 0] = 0
    log_mel = np.log(np.maximum(magnitude @ filters.T, 1e-12))
    cosine = np.cos(np.pi / 80 * np.outer(np.arange(40), np.arange(80) + 0.5)) * np.sqrt(2 / 80)
    return log_mel @ cosine.T


def test_matches_the_definitions():
    waveform = noise(2, 16000) * 0.1
    expected = np.stack([naive(clip) for clip in waveform.double().numpy()])
    np.testing.assert_allclose(KWTFrontend()(waveform).numpy(), expected, atol=2e-4)


def test_waveforms_are_padded_or_cut_at_the_end():
    frontend, waveform = KWTFrontend(), noise(2, 20000) * 0.1
    assert torch.equal(frontend(waveform), frontend(waveform[:, :16000]))
    short = torch.nn.functional.pad(waveform[:, :9000], (0, 7000))
    assert torch.equal(frontend(waveform[:, :9000]), frontend(short))


@pytest.mark.parametrize("n_frames", [1, 9, 50])
def test_other_sizes(n_frames):
    assert KWTFrontend(n_frames=n_frames, n_coefficients=7)(noise(2, 16000)).shape == (2, n_frames, 7)


def test_silence_is_finite():
    assert KWTFrontend()(torch.zeros(1, 16000)).isfinite().all()


def test_autocast_does_not_touch_it():
    frontend, waveform = KWTFrontend(), noise(1, 16000) * 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = frontend(waveform)
    assert torch.equal(inside, frontend(waveform))


def test_computed_matrices_are_those_of_the_checkpoint(kwt_folder):
    loaded = load_kwt(kwt_folder / "kwt1.npz").frontend
    for name, buffer in KWTFrontend().named_buffers():
        torch.testing.assert_close(buffer, getattr(loaded, name), atol=1e-6, rtol=0, msg=name)
