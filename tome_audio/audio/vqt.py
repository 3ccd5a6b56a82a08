"""A spectrogram on a scale of semitones: what is transposed moves along it, what is played faster is shorter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tome_audio.installation import import_extra


@dataclass(frozen=True)
class VqtFrontEnd:
    """Variable-Q transform (Schoerkhuber et al., 2014), as librosa computes it.

    With the defaults, 160 bins of half a semitone from 65 Hz to 6.5 kHz and 20.8 frames a second.

    Attributes:
        sample_rate: Of the waveforms, in Hz.
        hop: Samples from one frame to the next; a multiple of 2 for every octave but the first.
        fmin: Centre of the lowest bin, in Hz.
        n_bins: Bins F.
        bins_per_octave: Bins that double the frequency.
        gamma: Widens the filters of low bins, in Hz: 0 is the constant-Q transform.

    Raises:
        ValueError: A value out of range, or bins above half the sample rate.
    """

    sample_rate: int = 16000
    hop: int = 768
    fmin: float = 65.40639
    n_bins: int = 160
    bins_per_octave: int = 24
    gamma: float = 7.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop", "n_bins", "bins_per_octave"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.fmin > 0 or self.gamma < 0:
            raise ValueError(f"fmin must be positive and gamma not negative, got {self.fmin} and {self.gamma}")
        top = self.fmin * 2 ** (self.n_bins / self.bins_per_octave)
        if top > self.sample_rate / 2:
            raise ValueError(
                f"{self.n_bins} bins reach {top:.0f} Hz, more than half of {self.sample_rate} Hz: take fewer bins"
            )
        octaves = -(-self.n_bins // self.bins_per_octave)
        if self.hop % 2 ** (octaves - 1):
            raise ValueError(f"hop must be a multiple of {2 ** (octaves - 1)} for {octaves} octaves, got {self.hop}")

    @property
    def frames_per_second(self) -> float:
        """Frames of a second."""
        return self.sample_rate / self.hop

    def power(self, waveform: Tensor) -> Tensor:
        """Turn a waveform (T,) into power (1 + T // hop, n_bins), float32; the middle of frame i is sample i * hop.

        Raises:
            ValueError: Not one waveform of floats, an empty one, or NaN or infinite samples.
            ImportError: librosa is absent.
        """
        if waveform.ndim != 1 or not waveform.is_floating_point() or not len(waveform):
            raise ValueError(f"expected a waveform (T,) of floats, got {waveform.dtype} {tuple(waveform.shape)}")
        if not bool(torch.isfinite(waveform).all()):
            raise ValueError("the waveform holds NaN or infinite samples: leave them out")
        vqt = import_extra("librosa", "the front end of sample identification", "sampleid").vqt
        n_frames = 1 + len(waveform) // self.hop
        found = vqt(
            waveform.float().cpu().numpy(), sr=self.sample_rate, hop_length=self.hop, fmin=self.fmin,
            n_bins=self.n_bins, bins_per_octave=self.bins_per_octave, gamma=self.gamma,
        )[:, :n_frames]  # fmt: skip
        return torch.from_numpy(found.real**2 + found.imag**2).T.contiguous()

    def facts(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def peak_normalised(power: Tensor, floor: float = 60.0) -> Tensor:
    """Turn power (..., T, F) into decibels below the window's own peak, from -1 (at the floor and under it) to 1.

    So a window says nothing of how loud it is. Silence is -1 throughout.

    Args:
        power: Not negative.
        floor: Decibels below the peak that still count.
    """
    peak = power.amax((-2, -1), keepdim=True)
    relative = power / peak.clamp_min(torch.finfo(power.dtype).tiny)
    decibels = 10.0 * relative.clamp_min(10.0 ** (-floor / 10.0)).log10()
    return 1.0 + decibels * (2.0 / floor)
