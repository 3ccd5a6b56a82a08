from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import soundfile
import torch
from real_audio import DATA

from tome_audio.audio import fbank as fbank_module
from tome_audio.audio import kaldi_fbank, mel_filters, window_and_shift

kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="torchaudio is the reference")


def reference(clip, **changes):
    options = {
        "htk_compat": True,
        "use_energy": False,
        "window_type": "hanning",
        "num_mel_bins": 128,
        "dither": 0.0,
        "frame_shift": 10,
        "sample_frequency": 16000,
    }
    return kaldi.fbank(clip[None], **(options | changes))


def random_clip(n_samples, seed=0, dtype=torch.float32):
    return 0.3 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive_fbank(clip, window=400, shift=160, fft_size=512):
    """The definition, one frame at a time, with a plain discrete Fourier transform in float64."""
    clip = np.asarray(clip, np.float64)
    filters = mel_filters(128, fft_size, 16000, 20.0, 0.0).astype(np.float64)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))
    waves = np.exp(-2j * np.pi * np.outer(np.arange(fft_size // 2), np.arange(window)) / fft_size)
    rows = []
    for start in range(0, len(clip) - window + 1, shift):
        frame = clip[start : start + window] - clip[start : start + window].mean()
        emphasised = [frame[i] - 0.97 * frame[max(i - 1, 0)] for i in range(window)]
        power = np.abs(waves @ (taper * emphasised)) ** 2
        rows.append(np.log(np.maximum(filters @ power, 2.0**-23)))
    return np.array(rows)


@pytest.mark.parametrize("n_samples", [400, 401, 559, 560, 719, 720, 16000, 163840])
def test_equals_torchaudio_on_noise(n_samples):
    clip = random_clip(n_samples)
    wanted = reference(clip)
    assert wanted.shape == (1 + (n_samples - 400) // 160, 128)
    torch.testing.assert_close(kaldi_fbank(clip), wanted, atol=1e-4, rtol=0)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real audio in {DATA} (set TOME_AUDIO_DATA)")
@pytest.mark.parametrize("folder", ["esc50", "speech_commands", "clips"])
def test_equals_torchaudio_on_real_clips(folder):
    paths = sorted((DATA / folder).rglob("*.flac"))[::600]
    assert paths
    for path in paths:
        clip = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        torch.testing.assert_close(kaldi_fbank(clip.double()), reference(clip.double()), atol=1e-9, rtol=0)
        torch.testing.assert_close(kaldi_fbank(clip), reference(clip), atol=1e-4, rtol=0)


def test_equals_the_definition_in_float64():
    clip = random_clip(2000, dtype=torch.float64)
    np.testing.assert_allclose(kaldi_fbank(clip).numpy(), naive_fbank(clip), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"n_mels": 40}, {"num_mel_bins": 40}),
        ({"n_mels": 64, "low_hz": 50.0, "high_hz": 7000.0}, {"num_mel_bins": 64, "low_freq": 50, "high_freq": 7000}),
        ({"n_mels": 64, "high_hz": -500.0}, {"num_mel_bins": 64, "high_freq": -500.0}),
        ({"frame_shift_ms": 20.0, "frame_length_ms": 32.0}, {"frame_shift": 20.0, "frame_length": 32.0}),
        ({"frame_shift_ms": 12.5}, {"frame_shift": 12.5}),
        ({"preemphasis": 0.0}, {"preemphasis_coefficient": 0.0}),
        ({"sample_rate": 8000, "n_mels": 40}, {"sample_frequency": 8000, "num_mel_bins": 40}),
        ({"sample_rate": 22050, "n_mels": 80}, {"sample_frequency": 22050, "num_mel_bins": 80}),
        ({"sample_rate": 44100}, {"sample_frequency": 44100}),
    ],
)
def test_equals_torchaudio_with_other_settings(ours, theirs):
    clip = random_clip(8000)
    torch.testing.assert_close(kaldi_fbank(clip, **ours), reference(clip, **theirs), atol=1e-4, rtol=0)


def test_a_batch_equals_its_clips():
    batch = torch.stack([random_clip(5000, seed) for seed in range(7)])
    alone = torch.stack([kaldi_fbank(clip) for clip in batch])
    assert alone.shape == (7, 29, 128)
    torch.testing.assert_close(kaldi_fbank(batch), alone, atol=1e-5, rtol=0)


def test_non_contiguous_input():
    batch = torch.stack([random_clip(6000, seed) for seed in range(3)], dim=1)
    for view in (batch.T, batch[::2, 0], batch.T[:, ::3], batch.T[:1].expand(4, -1)):
        assert not view.is_contiguous()
        assert torch.equal(kaldi_fbank(view), kaldi_fbank(view.contiguous()))


def test_input_is_left_alone():
    clip = random_clip(2000)
    before = clip.clone()
    kaldi_fbank(clip)
    assert torch.equal(clip, before)


def test_silence_and_constants_give_the_floor():
    features = kaldi_fbank(torch.stack([torch.zeros(2000), torch.full((2000,), 0.5)]))
    torch.testing.assert_close(features, torch.full((2, 11, 128), math.log(2.0**-23)))


def test_float64_stays_float64():
    features = kaldi_fbank(random_clip(4000, dtype=torch.float64))
    assert features.dtype == torch.float64
    torch.testing.assert_close(
        features.float(), kaldi_fbank(random_clip(4000, dtype=torch.float64).float()), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    clip = random_clip(4000).to(dtype)
    features = kaldi_fbank(clip)
    assert features.dtype == dtype
    assert torch.equal(features, kaldi_fbank(clip.float()).to(dtype))


def test_autocast_changes_nothing():
    clip = random_clip(4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = kaldi_fbank(clip)
    assert features.dtype == torch.float32
    assert torch.equal(features, kaldi_fbank(clip))


def test_gradient_equals_finite_differences():
    clip = random_clip(2000, dtype=torch.float64).requires_grad_()
    weights = random_clip(11 * 128, 1, torch.float64).view(11, 128)
    (kaldi_fbank(clip) * weights).sum().backward()
    for seed in range(2, 6):
        step = 1e-6 * random_clip(2000, seed, torch.float64)
        with torch.no_grad():
            change = ((kaldi_fbank(clip + step) - kaldi_fbank(clip - step)) * weights).sum()
        assert change.item() == pytest.approx(2 * (clip.grad @ step).item(), rel=1e-4)


def test_gradient_of_silence_is_finite():
    clip = torch.zeros(2, 1000, requires_grad=True)
    kaldi_fbank(clip).sum().backward()
    assert torch.isfinite(clip.grad).all()


class TestErrors:
    @pytest.mark.parametrize("shape", [(), (2, 1, 16000)])
    def test_shape(self, shape):
        with pytest.raises(ValueError, match=r"waveform must be \(T,\) or \(B, T\), got shape"):
            kaldi_fbank(torch.zeros(shape))

    def test_no_clips(self):
        with pytest.raises(ValueError, match=r"waveform has no clips \(B = 0\)"):
            kaldi_fbank(torch.zeros(0, 16000))

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool, torch.complex64])
    def test_dtype(self, dtype):
        with pytest.raises(ValueError, match=r"float dtype.*got torch\.\w+: convert it"):
            kaldi_fbank(torch.zeros(16000, dtype=dtype))

    @pytest.mark.parametrize("shape", [(0,), (399,), (4, 399)])
    def test_too_short(self, shape):
        with pytest.raises(ValueError, match=r"fewer than one window of 400 .* pad it with zeros to 400"):
            kaldi_fbank(torch.zeros(shape))

    @pytest.mark.parametrize("preemphasis", [-0.1, 1.1, math.nan])
    def test_preemphasis(self, preemphasis):
        with pytest.raises(ValueError, match=r"preemphasis must lie in \[0, 1\]"):
            kaldi_fbank(torch.zeros(16000), preemphasis=preemphasis)

    @pytest.mark.parametrize("edges", [(-1.0, 0.0), (20.0, 8001.0), (500.0, 400.0), (20.0, -7990.0)])
    def test_edges(self, edges):
        with pytest.raises(ValueError, match=r"0 <= low_hz < high_hz <= 8000"):
            kaldi_fbank(torch.zeros(16000), low_hz=edges[0], high_hz=edges[1])

    def test_too_few_mels(self):
        with pytest.raises(ValueError, match="n_mels must be at least 4, got 3"):
            kaldi_fbank(torch.zeros(16000), n_mels=3)

    @pytest.mark.parametrize("settings", [{"frame_length_ms": 0.0}, {"frame_shift_ms": 0.0}, {"sample_rate": 0}])
    def test_no_window(self, settings):
        with pytest.raises(ValueError, match="give a window of"):
            kaldi_fbank(torch.zeros(16000), **settings)


def test_window_and_shift_at_common_rates():
    assert window_and_shift(16000) == (400, 160)
    assert window_and_shift(8000) == (200, 80)
    assert window_and_shift(44100) == (1102, 441)


class TestFilters:
    @pytest.fixture(autouse=True)
    def fresh_cache(self):
        mel_filters.cache_clear()
        yield
        mel_filters.cache_clear()

    def test_cannot_be_changed_by_a_caller(self):
        with pytest.raises(ValueError, match="read-only"):
            mel_filters(128, 512, 16000, 20.0, 0.0)[0, 0] = 1.0

    @pytest.mark.parametrize("settings", [(128, 512, 16000, 20.0, 0.0), (40, 256, 8000, 0.0, 3800.0)])
    def test_fallback_equals_torchaudio(self, monkeypatch, settings):
        wanted = mel_filters(*settings).copy()
        mel_filters.cache_clear()
        monkeypatch.setattr(fbank_module, "import_matched", self.no_torchaudio)
        np.testing.assert_allclose(mel_filters(*settings), wanted, atol=1e-4, rtol=0)
        assert wanted.max() > 0.5

    def test_features_without_torchaudio(self, monkeypatch):
        clip = random_clip(16000)
        monkeypatch.setitem(sys.modules, "torchaudio.compliance.kaldi", None)
        monkeypatch.setitem(sys.modules, "torchaudio", None)
        torch.testing.assert_close(kaldi_fbank(clip), reference(clip), atol=1e-4, rtol=0)

    def test_first_call_in_inference_mode_leaves_training_possible(self):
        clip = random_clip(2000).requires_grad_()
        with torch.inference_mode():
            kaldi_fbank(clip)
        kaldi_fbank(clip).sum().backward()
        assert clip.grad.abs().max() > 0

    def test_first_call_under_a_device_context_does_not_stick(self):
        with torch.device("meta"):
            assert kaldi_fbank(torch.zeros(2000)).shape == (11, 128)
        clip = random_clip(2000)
        torch.testing.assert_close(kaldi_fbank(clip), reference(clip), atol=1e-4, rtol=0)

    @staticmethod
    def no_torchaudio(module, purpose):
        raise ImportError(f"{purpose} needs torchaudio")
