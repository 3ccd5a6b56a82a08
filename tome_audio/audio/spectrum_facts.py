"""Spectral centroid, bandwidth and flatness of a data set, which waveform augmentation goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tome_audio.audio.clip_checks import checked_clips

_FLOOR = 1e-10


@dataclass(frozen=True)
class SpectrumFacts:
    """Spectral centroid and bandwidth of a data set in Hz, and its flatness from 0, a tone, to 1, white noise.

    Raises:
        ValueError: a centroid that is not positive, a negative bandwidth, or a flatness outside [0, 1].
    """

    centroid: float
    bandwidth: float
    flatness: float

    def __post_init__(self) -> None:
        if not (0 < self.centroid < float("inf") and 0 <= self.bandwidth < float("inf")):
            raise ValueError(
                "the centroid must be a positive and the bandwidth a non-negative number of Hz, "
                f"got {self.centroid} and {self.bandwidth}"
            )
        if not 0 <= self.flatness <= 1:
            raise ValueError(f"the flatness must be in [0, 1], got {self.flatness}")


SPECTRUM_FACTS: Mapping[str, SpectrumFacts] = MappingProxyType(
    {
        "fsd": SpectrumFacts(1944.0, 1605.0, 0.056),
        "nsynth": SpectrumFacts(1294.0, 961.0, 0.224),
        "esc50": SpectrumFacts(1191.0, 1669.0, 0.144),
        "birdclef": SpectrumFacts(3038.0, 1910.0, 0.127),
    }
)
"""By data set, as used with the angular prototypical loss in arXiv 2509.10074. VoxCeleb has none: measure it."""


def spectrum_facts(
    waveforms: Tensor | Sequence[Tensor], *, sample_rate: int = 16000, n_fft: int = 2048, hop: int = 512
) -> SpectrumFacts:
    """Measure centroid, bandwidth and flatness of clips of any lengths, as the mean over their frames.

    Per frame librosa's `spectral_centroid`, `spectral_bandwidth` and `spectral_flatness`. Frames without any sound
    have no spectrum and do not count.

    Args:
        waveforms: clips of shape (T_i,) in a sequence, or one (B, T) tensor; some hundreds are plenty.
        sample_rate: in Hz.
        n_fft: samples per frame.
        hop: samples from one frame to the next.

    Raises:
        ValueError: no clips, wrong shape, integer dtype, mixed dtypes or devices, NaN or infinite samples, or silence
            in all of them.
    """
    frames = torch.cat([_frame_facts(clip.float(), sample_rate, n_fft, hop) for clip in checked_clips(waveforms)])
    if len(frames) == 0:
        raise ValueError("all clips are silent and have no spectrum: give clips with sound")
    centroid, bandwidth, flatness = frames.double().mean(dim=0).tolist()
    return SpectrumFacts(centroid, bandwidth, flatness)


def _frame_facts(clip: Tensor, sample_rate: int, n_fft: int, hop: int) -> Tensor:
    # (frames with sound, 3): centroid in Hz, bandwidth in Hz, flatness.
    window = torch.hann_window(n_fft, device=clip.device)
    spectrum = torch.stft(clip, n_fft, hop, window=window, pad_mode="constant", return_complex=True).abs().T
    total = spectrum.sum(dim=1, keepdim=True)
    spectrum = spectrum[total[:, 0] > _FLOOR]
    share = spectrum / spectrum.sum(dim=1, keepdim=True)
    hz = torch.fft.rfftfreq(n_fft, 1.0 / sample_rate, device=clip.device)
    centroid = (share * hz).sum(dim=1, keepdim=True)
    bandwidth = (share * (hz - centroid).square()).sum(dim=1).sqrt()
    power = spectrum.square().clamp_min(_FLOOR)
    flatness = power.log().mean(dim=1).exp() / power.mean(dim=1)
    return torch.stack([centroid[:, 0], bandwidth, flatness], dim=1)
