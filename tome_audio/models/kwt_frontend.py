"""Front end of the Keyword Transformer: mel-frequency cepstral coefficients as TensorFlow computes them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

SAMPLE_RATE = 16000
_LOW_HZ, _HIGH_HZ = 20.0, 7600.0


def dft_matrices(frame_length: int, n_fft: int, n_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary DFT matrices (n_bins, frame_length) of frames zero-padded to n_fft samples."""
    k = torch.arange(n_bins, dtype=torch.float64)[:, None]
    n = torch.arange(frame_length, dtype=torch.float64)[None]
    angle = 2 * math.pi * k * n / n_fft
    return angle.cos().float(), -angle.sin().float()


def _hz_to_mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)


def mel_matrix(n_mels: int, n_fft: int, n_bins: int) -> torch.Tensor:
    """Triangular filters (n_mels, n_bins), 20 Hz to 7600 Hz, straight on the HTK mel scale; bin 0 is unused."""
    bins = torch.tensor([_hz_to_mel(k * SAMPLE_RATE / n_fft) for k in range(n_bins)], dtype=torch.float64)
    low, high = _hz_to_mel(_LOW_HZ), _hz_to_mel(_HIGH_HZ)
    edges = low + (high - low) / (n_mels + 1) * torch.arange(n_mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    weights[:, 0] = 0
    return weights.float()


def dct_matrix(n_coefficients: int, n_mels: int) -> torch.Tensor:
    """DCT-II matrix (n_coefficients, n_mels) with the scale sqrt(2 / n_mels) on every row, row 0 as well."""
    k = torch.arange(n_coefficients, dtype=torch.float64)[:, None]
    n = torch.arange(n_mels, dtype=torch.float64)[None]
    return (torch.cos(math.pi / n_mels * (n + 0.5) * k) * math.sqrt(2 / n_mels)).float()


class KWTFrontend(nn.Module):
    """Waveforms (B, T samples at 16 kHz, in [-1, 1]) to cepstral coefficients (B, n_frames, n_coefficients).

    Waveforms are padded with zeros at the end, or cut, to `n_samples`. The matrices are buffers, so a loaded
    checkpoint replaces the computed ones.

    Args:
        n_frames: Frames per clip; 98 frames of 30 ms, 10 ms apart, make one second.
        n_coefficients: Coefficients kept of the cosine transform.
        n_mels: Mel filters.
        frame_length: Samples per frame.
        hop: Samples between frames.
        n_fft: Points of the Fourier transform; frames are zero-padded to it.
    """

    window: torch.Tensor
    dft_a: torch.Tensor
    dft_b: torch.Tensor
    mel: torch.Tensor
    dct: torch.Tensor
    log_floor: torch.Tensor
    norm_sub: torch.Tensor
    norm_mul: torch.Tensor

    def __init__(
        self,
        *,
        n_frames: int = 98,
        n_coefficients: int = 40,
        n_mels: int = 80,
        frame_length: int = 480,
        hop: int = 160,
        n_fft: int = 512,
    ) -> None:
        super().__init__()
        self.frame_length, self.hop = frame_length, hop
        self.n_samples = frame_length + (n_frames - 1) * hop
        n_bins = int(_HIGH_HZ * n_fft / SAMPLE_RATE) + 1  # bins above the last filter carry nothing
        dft_a, dft_b = dft_matrices(frame_length, n_fft, n_bins)
        self.register_buffer("window", torch.hann_window(frame_length, dtype=torch.float32))
        self.register_buffer("dft_a", dft_a)
        self.register_buffer("dft_b", dft_b)
        self.register_buffer("mel", mel_matrix(n_mels, n_fft, n_bins))
        self.register_buffer("dct", dct_matrix(n_coefficients, n_mels))
        self.register_buffer("log_floor", torch.tensor(1e-12))
        self.register_buffer("norm_sub", torch.tensor(0.0))
        self.register_buffer("norm_mul", torch.ones(n_coefficients))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Turn waveforms (B, T) into coefficients (B, n_frames, n_coefficients), without autocast."""
        # the log of small energies needs float32, whatever the model around it runs in
        with torch.autocast(waveform.device.type, enabled=False):
            x = waveform.to(self.window.dtype)
            x = F.pad(x, (0, self.n_samples - x.shape[-1]))  # a negative amount cuts
            frames = x.unfold(-1, self.frame_length, self.hop) * self.window
            magnitude = torch.sqrt(F.linear(frames, self.dft_a) ** 2 + F.linear(frames, self.dft_b) ** 2)
            log_mel = torch.maximum(F.linear(magnitude, self.mel), self.log_floor).log()
            return (F.linear(log_mel, self.dct) - self.norm_sub) * self.norm_mul
