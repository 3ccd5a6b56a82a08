from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from real_audio import DATA

from tome_audio.audio import log_mel, read_audio, segments, standardise
from tome_audio.audio.log_mel import mel_triangles, unit_variance

librosa = pytest.importorskip("librosa", reason="librosa is the reference")


def clips(n_clips=2, n_samples=16000):
    draws = torch.Generator().manual_seed(n_samples)
    loudness = 10.0 ** -torch.arange(n_clips)[:, None]
    return loudness * torch.randn(n_clips, n_samples, generator=draws) + 0.3 * loudness


def by_librosa(clip, **settings):
    samples = clip.double().numpy()
    samples = (samples - samples.mean()) / samples.std()
    options = {"n_fft": 1024, "hop_length": 512, "n_mels": 128, "sr": 16000, "power": 2.0, **settings}
    mel = librosa.feature.melspectrogram(y=samples, center=True, pad_mode="constant", **options)
    return torch.from_numpy(10 * np.log10(mel + 2.2e-16).T)


def tone(hz, n_samples=80000):
    return torch.sin(2 * math.pi * hz / 16000 * torch.arange(n_samples))


# shape and orientation


@pytest.mark.parametrize(("seconds", "n_frames"), [(5, 157), (4, 126), (10, 313), (1, 32)])
def test_frames_come_before_mel_bins(seconds, n_frames):
    assert log_mel(torch.randn(2, seconds * 16000)).shape == (2, n_frames, 128)


def test_a_tone_is_one_mel_bin_at_all_times_and_a_click_all_bins_at_one_time():
    """On 128 frames of 128 bins, where a swap of the axes shows in no shape."""
    n_samples = 127 * 512
    steady = log_mel(tone(1000.0, n_samples)[None])[0]
    click = torch.zeros(1, n_samples)
    click[0, 40 * 512 : 40 * 512 + 2] = torch.tensor([1.0, -1.0])  # without a mean
    short = log_mel(click)[0]
    assert steady.shape == short.shape == (128, 128)
    assert len(steady[2:-2].argmax(dim=1).unique()) == 1  # the same bin in every frame
    assert short.argmax(dim=0).unique().tolist() == [40]  # the same frame in every bin
    assert short[:38].max() < -150 and short[43:].max() < -150


def test_higher_tones_are_higher_bins():
    peaks = [int(log_mel(tone(hz)[None])[0].mean(dim=0).argmax()) for hz in (200, 800, 2000, 6000)]
    assert peaks == sorted(set(peaks))


# values


@pytest.mark.parametrize("n_samples", [1000, 16000, 80000])
def test_equal_to_librosa(n_samples):
    x = clips(3, n_samples)
    wanted = torch.stack([by_librosa(clip) for clip in x])
    torch.testing.assert_close(log_mel(x).double(), wanted, atol=2e-3, rtol=0)
    torch.testing.assert_close(log_mel(x.double()), wanted, atol=1e-4, rtol=0)


def test_equal_to_librosa_at_other_settings():
    x = clips(1, 4000)
    wanted = by_librosa(x[0], n_fft=400, hop_length=100, n_mels=40, sr=8000)
    mine = log_mel(x.double(), n_fft=400, hop=100, n_mels=40, sample_rate=8000)[0]
    torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=0)


def test_htk_filters_are_torchaudios():
    functional = pytest.importorskip("torchaudio.functional")
    wanted = functional.melscale_fbanks(513, 0.0, 8000.0, 80, 16000).T
    np.testing.assert_allclose(mel_triangles(80, 1024, 16000, "htk"), wanted, atol=2e-5)
    power = 10 ** (log_mel(clips(), n_mels=80, mel="htk") / 10)
    spectrum = torch.stft(
        unit_variance(clips()), 1024, 512, window=torch.hann_window(1024), pad_mode="constant", return_complex=True
    )
    torch.testing.assert_close(power, (wanted @ spectrum.abs().square()).transpose(1, 2), rtol=1e-3, atol=1e-2)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real audio in {DATA} (set TOME_AUDIO_DATA)")
def test_equal_to_librosa_on_real_clips():
    for path in sorted((DATA / "esc50").rglob("*.flac"))[::700]:
        pieces = segments(read_audio(path), 80000)
        wanted = torch.stack([by_librosa(piece) for piece in pieces])
        torch.testing.assert_close(log_mel(pieces.double()), wanted, atol=1e-3, rtol=0)


def test_loudness_and_offset_of_a_clip_do_not_matter():
    x = clips(1).double()
    torch.testing.assert_close(log_mel(0.01 * x + 0.5), log_mel(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_neither_very_quiet_nor_very_loud_clips_are_lost(scale):
    assert unit_variance(scale * clips()).std(dim=1, correction=0).tolist() == pytest.approx([1.0, 1.0], rel=1e-4)


def test_a_batch_gives_each_clip_what_it_gets_alone():
    x = torch.cat([clips(3, 5000), torch.zeros(1, 5000)])
    alone = torch.cat([log_mel(x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(log_mel(x), alone, atol=1e-3, rtol=0)
    assert torch.equal(log_mel(list(x)), log_mel(x))


# silence, very short clips, half precision


@pytest.mark.parametrize("level", [0.0, 0.3, -1e-20, 0.1234567])
def test_a_clip_without_change_is_silence(level):
    features = log_mel(torch.full((1, 16000), level))
    torch.testing.assert_close(features, torch.full((1, 32, 128), 10 * math.log10(2.2e-16)))


@pytest.mark.parametrize("n_samples", [1, 2, 511, 512, 700])
def test_very_short_clips(n_samples):
    features = log_mel(clips(2, n_samples))
    assert features.shape == (2, 1 + n_samples // 512, 128) and features.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = clips(1).to(dtype)
    assert torch.equal(log_mel(x), log_mel(x.float()).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(clips())
    assert inside.dtype == torch.float32 and torch.equal(inside, log_mel(clips()))


def test_gradients_are_finite_for_silence_too():
    x = torch.stack([clips(1, 2000)[0], torch.zeros(2000)]).requires_grad_()
    log_mel(x).sum().backward()
    assert x.grad.isfinite().all() and x.grad[0].any()


# normalisation


def test_standardised_features_are_not_clamped():
    features = log_mel(clips(4))
    mean, std = features.mean().item(), features.std().item()
    out = standardise(features, mean, std)
    assert torch.equal(out, (features - mean) / std)
    assert 0.3 < (out < 0).float().mean() < 0.7
    assert out.mean().abs() < 1e-4 and abs(out.std() - 1) < 1e-4
    assert standardise(torch.tensor([-1e6, 1e6]), 0.0, 2.0).tolist() == [-5e5, 5e5]


# what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_mel([torch.ones(5), torch.ones(9)]), "clips of one length, got 5 to 9 samples: .* segments"),
        (lambda: log_mel(torch.ones(500)), r"a waveform tensor must be \(B, T\), got shape \(500,\)"),
        (lambda: log_mel([]), "no waveforms"),
        (lambda: log_mel(torch.ones(1, 9, dtype=torch.int16)), "must have a float dtype"),
        (lambda: log_mel([torch.ones(9), torch.full((9,), math.nan)]), "waveform 1 holds NaN or infinite samples"),
        (lambda: log_mel(torch.full((1, 9), math.inf)), "waveform 0 holds NaN or infinite samples"),
        (lambda: log_mel(torch.ones(1, 9), hop=0), "hop must be at least 1, got 0"),
        (lambda: log_mel(torch.ones(1, 9), n_fft=1), "n_fft must be at least 2, got 1"),
        (lambda: log_mel(torch.ones(1, 9), mel="bark"), "mel must be slaney or htk, got 'bark'"),
        (lambda: standardise(torch.ones(3), 0.0, 0.0), "std must be positive, got 0.0"),
        (lambda: standardise(torch.ones(3), 0.0, math.nan), "std must be positive, got nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_the_folder_imports_no_heavy_library():
    code = "import sys, tome_audio.audio; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"audiomentations", "librosa", "torchaudio", "scipy", "numba"}
