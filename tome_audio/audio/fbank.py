"""Kaldi log-mel filter banks for batches, on any device, differentiable."""

from __future__ import annotations

import contextlib
import functools
import math

import numpy as np
import torch
from torch import Tensor

from tome_audio.installation import import_matched

# Kaldi floors every mel energy at float32's epsilon, whatever the dtype.
LOG_FLOOR = torch.finfo(torch.float32).eps


def window_and_shift(sample_rate: int, frame_length_ms: float = 25.0, frame_shift_ms: float = 10.0) -> tuple[int, int]:
    """Samples per analysis window and between windows, rounded down as Kaldi does.

    Args:
        sample_rate: in Hz.
        frame_length_ms: window length in milliseconds.
        frame_shift_ms: distance of windows in milliseconds.

    Raises:
        ValueError: the window would have fewer than 2 samples or the shift fewer than 1.
    """
    window = int(sample_rate * frame_length_ms * 0.001)
    shift = int(sample_rate * frame_shift_ms * 0.001)
    if window < 2 or shift < 1:
        raise ValueError(
            f"frame_length_ms={frame_length_ms} and frame_shift_ms={frame_shift_ms} at sample_rate="
            f"{sample_rate} give a window of {window} and a shift of {shift} samples; need at least 2 and 1"
        )
    return window, shift


def kaldi_fbank(
    waveform: Tensor,
    *,
    sample_rate: int = 16000,
    n_mels: int = 128,
    frame_length_ms: float = 25.0,
    frame_shift_ms: float = 10.0,
    preemphasis: float = 0.97,
    low_hz: float = 20.0,
    high_hz: float = 0.0,
) -> Tensor:
    """Log-mel filter banks as Kaldi's compute-fbank-feats, with AST's settings as defaults.

    Per clip equal to ``torchaudio.compliance.kaldi.fbank`` with ``htk_compat=True, use_energy=False,
    window_type="hanning", dither=0.0``: only whole windows count (snip_edges), each window loses its mean,
    is pre-emphasised, tapered and zero-padded to a power of two; power spectrum, mel filters, natural log.
    float16 and bfloat16 input is computed in float32 and rounded at the end, under autocast too. In float32
    a filter that holds almost no energy beside loud ones is only good to about 1e-3, as rounding differs
    between devices and FFT libraries; float64 is good to 1e-9.

    Args:
        waveform: (T,) or (B, T) samples of a float dtype, on any device.
        sample_rate: in Hz.
        n_mels: number of mel filters M, at least 4.
        frame_length_ms: window length in milliseconds.
        frame_shift_ms: distance of windows in milliseconds.
        preemphasis: coefficient in [0, 1].
        low_hz: lower edge of the lowest filter in Hz.
        high_hz: upper edge of the highest filter in Hz; 0 or less counts down from half the sample rate.

    Returns:
        (N, M) or (B, N, M) with N = 1 + (T - window) // shift frames.

    Raises:
        ValueError: wrong shape or dtype, no clips, clips shorter than one window, impossible settings.
    """
    window, shift = window_and_shift(sample_rate, frame_length_ms, frame_shift_ms)
    _check_waveform(waveform, window, sample_rate)
    if not 0.0 <= preemphasis <= 1.0:
        raise ValueError(f"preemphasis must lie in [0, 1], got {preemphasis}")
    fft_size = 2 ** math.ceil(math.log2(window))
    filters = mel_filters(n_mels, fft_size, sample_rate, low_hz, high_hz)
    dtype = torch.promote_types(waveform.dtype, torch.float32)
    with without_autocast(waveform.device):
        # Contiguous first: the FFT rounds differently per memory layout, which shows in near-empty filters.
        frames = waveform.to(dtype).contiguous().unfold(-1, window, shift)
        power = _power_spectrum(frames, fft_size, preemphasis)
        # The filters are kept as an array and moved per call: a cache must not hold device memory.
        energies = power[..., :-1] @ torch.tensor(filters, dtype=dtype, device=waveform.device).T
        features: Tensor = energies.clamp_min(LOG_FLOOR).log().to(waveform.dtype)
    return features


@functools.lru_cache(maxsize=16)
def mel_filters(n_mels: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Kaldi's triangular mel filters of shape (n_mels, fft_size / 2), float32, for bins below Nyquist.

    From torchaudio where it can be imported; a CPU-only torch has no matching torchaudio wheel on the package
    index, so the same triangles are computed here otherwise. A read-only NumPy array, since cached tensors
    would remember the device context and inference mode of the first caller.

    Raises:
        ValueError: fewer than 4 filters, or edges outside 0 <= low < high <= half the sample rate.
    """
    nyquist = 0.5 * sample_rate
    high = high_hz + nyquist if high_hz <= 0 else high_hz
    if n_mels < 4:
        raise ValueError(f"n_mels must be at least 4, got {n_mels}")
    if not 0.0 <= low_hz < high <= nyquist:
        raise ValueError(
            f"mel filters need 0 <= low_hz < high_hz <= {nyquist:g} (half of sample_rate={sample_rate}), "
            f"got low_hz={low_hz:g} and high_hz={high:g}"
        )
    try:
        kaldi = import_matched("torchaudio.compliance.kaldi", "the mel filter bank")
    except ImportError:
        filters = _triangles(n_mels, fft_size, sample_rate, low_hz, high)
    else:
        with torch.inference_mode(False), torch.device("cpu"):
            banks, _ = kaldi.get_mel_banks(n_mels, fft_size, sample_rate, low_hz, high, 100.0, -500.0, 1.0)
        filters = np.array(banks.tolist(), dtype=np.float32)
    filters.setflags(write=False)
    return filters


def _triangles(n_mels: int, fft_size: int, sample_rate: int, low: float, high: float) -> np.ndarray:
    """Triangles that are even on Kaldi's mel scale, 1127 ln(1 + f / 700), in torchaudio's float32 steps."""
    low_mel, high_mel = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (low, high))
    width = (high_mel - low_mel) / (n_mels + 1)
    index = np.arange(n_mels, dtype=np.float32)[:, None]
    left, centre, right = (np.float32(low_mel) + (index + k) * np.float32(width) for k in range(3))
    hz = np.float32(sample_rate / fft_size) * np.arange(fft_size // 2, dtype=np.float32)
    mel = np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0))
    up, down = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters: np.ndarray = np.maximum(np.float32(0.0), np.minimum(up, down)).astype(np.float32)
    return filters


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast does not multiply by mel filters in half precision; meta has no autocast to stop."""
    if torch.amp.autocast_mode.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def _power_spectrum(frames: Tensor, fft_size: int, preemphasis: float) -> Tensor:
    """Power of (..., N, window) frames at fft_size / 2 + 1 frequencies."""
    frames = frames - frames.mean(dim=-1, keepdim=True)
    # Kaldi treats the sample before a window as a repeat of its first one.
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    taper = torch.hann_window(frames.shape[-1], periodic=False, dtype=frames.dtype, device=frames.device)
    spectrum = torch.fft.rfft((frames - preemphasis * previous) * taper, n=fft_size)
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power


def _check_waveform(waveform: Tensor, window: int, sample_rate: int) -> None:
    if waveform.dim() not in (1, 2):
        raise ValueError(f"waveform must be (T,) or (B, T), got shape {tuple(waveform.shape)}: mix down to mono")
    if waveform.dim() == 2 and len(waveform) == 0:
        raise ValueError("waveform has no clips (B = 0): give at least one")
    if not waveform.dtype.is_floating_point:
        raise ValueError(
            f"waveform must have a float dtype with full scale at 1, got {waveform.dtype}: "
            "convert it, for 16-bit integers by waveform.float() / 32768"
        )
    if waveform.shape[-1] < window:
        raise ValueError(
            f"waveform has {waveform.shape[-1]} samples, fewer than one window of {window} at "
            f"sample_rate={sample_rate}: pad it with zeros to {window} samples"
        )
