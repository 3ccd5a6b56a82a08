"""The log-mel front end of few-shot audio benchmarks: clips of one length to (B, T, F) in decibels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tome_audio.audio.clip_checks import checked_clips
from tome_audio.audio.fbank import without_autocast

MelScale = Literal["slaney", "htk"]
"""The scale and height of the triangles: librosa's default, or HTK's scale with every triangle of height 1."""

POWER_FLOOR = 2.2e-16
"""Added to every mel power before the logarithm, so that silence is -156.6 dB."""


def log_mel(
    waveforms: Tensor | Sequence[Tensor],
    *,
    n_fft: int = 1024,
    hop: int = 512,
    n_mels: int = 128,
    sample_rate: int = 16000,
    mel: MelScale = "slaney",
    normalise: bool = True,
) -> Tensor:
    """Log-mel features of clips that each have their mean removed and are divided by their standard deviation.

    Power spectra of centred frames under a Hann window, the clip continued by zeros at both ends; mel filters;
    10 log10(power + 2.2e-16), without a limit below the peak. 5 s at 16 kHz become 157 frames of 128 bins. A clip
    without any change, silence for one, is all zeros after its mean is removed and stays so. Every clip gets what it
    would get alone. float16 and bfloat16 are computed in float32 and rounded at the end, under autocast too.
    As in MetaAudio (Heggan et al., 2022, arXiv 2204.02121).

    Args:
        waveforms: clips of one length T, as a (B, T) tensor or a sequence, of a float dtype; see `segments`.
        n_fft: samples per frame.
        hop: samples from one frame to the next.
        n_mels: number of mel bins F.
        sample_rate: of the waveforms, in Hz.
        mel: scale of the filters.
        normalise: False takes waveforms as they are: segments of a clip that has been through `unit_variance` whole.

    Returns:
        (B, 1 + T // hop, n_mels) in the dtype of the waveforms: frames first, then mel bins.

    Raises:
        ValueError: no clips, clips of different lengths, wrong shape, integer dtype, mixed dtypes or devices, NaN or
            infinite samples, or a setting below 1.
    """
    for name, value in (("hop", hop), ("n_mels", n_mels), ("sample_rate", sample_rate)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if n_fft < 2:
        raise ValueError(f"n_fft must be at least 2, got {n_fft}")
    clips = checked_clips(waveforms)
    lengths = {len(clip) for clip in clips}
    if len(lengths) > 1:
        raise ValueError(
            f"log_mel takes clips of one length, got {min(lengths)} to {max(lengths)} samples: "
            "cut them with segments first"
        )
    batch = torch.stack(clips)
    filters = mel_triangles(n_mels, n_fft, sample_rate, mel)
    dtype = torch.promote_types(batch.dtype, torch.float32)
    with without_autocast(batch.device):
        samples = unit_variance(batch.to(dtype)) if normalise else batch.to(dtype)
        window = torch.hann_window(n_fft, dtype=dtype, device=batch.device)
        spectrum = torch.stft(samples, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()  # (B, bins of the FFT, T)
        energies = power.transpose(1, 2) @ torch.tensor(filters, dtype=dtype, device=batch.device).T
        features: Tensor = (10.0 * (energies + POWER_FLOOR).log10()).to(batch.dtype)
    return features


def standardise(features: Tensor, mean: float, std: float) -> Tensor:
    """(x - mean) / std for features of any shape; nothing is cut off, half of the values are negative.

    Not AST's `normalise`, which divides by 2 std.

    Raises:
        ValueError: ``std`` is not positive.
    """
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}")
    return (features - mean) / std


def unit_variance(waveforms: Tensor) -> Tensor:
    """Each clip of (B, T) less its mean and over its standard deviation; a clip that is constant becomes zeros."""
    centred = waveforms - waveforms.mean(dim=-1, keepdim=True)
    peak = centred.abs().amax(dim=-1, keepdim=True)
    # The mean of a constant is off by rounding: what is left of it must not be blown up to noise.
    rounding = 8 * torch.finfo(waveforms.dtype).eps * waveforms.abs().amax(dim=-1, keepdim=True)
    constant = peak <= rounding
    # By the peak first, as squares of very quiet samples are zero in float32.
    scaled = (centred / peak.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)
    std = scaled.square().mean(dim=-1, keepdim=True).masked_fill(constant, 1.0).sqrt()
    return scaled / std


@functools.lru_cache(maxsize=16)
def mel_triangles(n_mels: int, n_fft: int, sample_rate: int, mel: MelScale) -> np.ndarray:
    """Triangular mel filters (n_mels, n_fft // 2 + 1) from 0 Hz to half the sample rate, read-only float32.

    "slaney": even on the scale of Slaney's Auditory Toolbox, 1998, each of area 1 (librosa's default). "htk": even on
    2595 log10(1 + f / 700), each of height 1 (torchaudio's default).

    Raises:
        ValueError: an unknown scale.
    """
    top = 0.5 * sample_rate
    if mel == "slaney":
        edges = _slaney_hz(np.linspace(0.0, _slaney_mel(top), n_mels + 2))
    elif mel == "htk":
        edges = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1.0 + top / 700.0), n_mels + 2) / 2595.0) - 1.0)
    else:
        raise ValueError(f"mel must be slaney or htk, got {mel!r}")
    hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0.0, np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)))
    if mel == "slaney":
        filters *= 2.0 / (right - left)
    filters = filters.astype(np.float32)
    filters.setflags(write=False)
    return filters


# Slaney's scale is even in Hz below 1000 Hz, which is mel 15, and 27 steps per factor of 6.4 above it.
_LINEAR_HZ, _KNEE_HZ, _KNEE_MEL, _LOG_STEP = 200.0 / 3.0, 1000.0, 15.0, np.log(6.4) / 27.0


def _slaney_mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _KNEE_HZ else _KNEE_MEL + float(np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    hz: np.ndarray = np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, above)
    return hz
