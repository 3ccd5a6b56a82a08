"""The two front ends of few-shot models: segments of a waveform in, normalised spectrograms out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tome_audio.audio.fbank import window_and_shift
from tome_audio.audio.features import ast_features
from tome_audio.audio.log_mel import log_mel, standardise
from tome_audio.audio.segments import segments

Kind = Literal["log-mel", "fbank"]
SAMPLE_RATE = 16000
_HOP = 512


@dataclass(frozen=True)
class FrontEnd:
    """How audio at 16 kHz becomes the input (B, T, F) of an encoder.

    "log-mel" is MetaAudio's (Heggan et al., 2022): Slaney mel in decibels, frames of 32 ms, (x - mean) / std, clips in
    segments of equal length, short ones repeated. "fbank" is AST's: Kaldi filter bank, frames of 10 ms,
    (x - mean) / (2 std), one segment per clip, padded or cut.

    Attributes:
        kind: "log-mel" or "fbank".
        n_frames: Frames T.
        n_mels: Mel bins F.
        mean: Of the training features, before normalisation.
        std: Of the training features.
        legacy_repeat: Stretch short clips by repeating samples one by one, as MetaAudio does, instead of tiling them.

    Raises:
        ValueError: A value out of range.
    """

    kind: Kind = "log-mel"
    n_frames: int = 157
    n_mels: int = 128
    mean: float = 0.0
    std: float = 1.0
    legacy_repeat: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown front end {self.kind!r}; choose one of {', '.join(get_args(Kind))}")
        for name in ("n_frames", "n_mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.std > 0:
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def n_samples(self) -> int:
        """Samples of a segment."""
        if self.kind == "log-mel":
            return (self.n_frames - 1) * _HOP + _HOP // 4  # 5 s are 157 frames, with a quarter of a hop left over
        window, shift = window_and_shift(SAMPLE_RATE)
        return window + (self.n_frames - 1) * shift

    def segments(self, waveform: Tensor) -> Tensor:
        """Cut a waveform (T,) into segments (S, n_samples); of "fbank" the clip itself, (1, T)."""
        if self.kind == "fbank":
            return waveform[None]
        return segments(waveform, self.n_samples, legacy_repeat=self.legacy_repeat)

    def features(self, waveforms: Tensor | Sequence[Tensor]) -> Tensor:
        """Turn segments (B, n_samples), or clips of "fbank", into normalised features (B, T, F)."""
        if self.kind == "fbank":
            sizes = {"n_frames": self.n_frames, "n_mels": self.n_mels}
            return ast_features(waveforms, mean=self.mean, std=self.std, **sizes).values
        return standardise(log_mel(waveforms, n_mels=self.n_mels), self.mean, self.std)

    def facts(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def measured(front_end: FrontEnd, waveforms: Sequence[Tensor]) -> FrontEnd:
    """Return the front end with mean and standard deviation of these waveforms' features; padding does not count.

    Raises:
        ValueError: No waveforms, or features that are all the same number (silent clips).
    """
    if not waveforms:
        raise ValueError("there are no clips to measure mean and std on")
    parts = []
    for waveform in waveforms:
        own = front_end.segments(waveform)
        if front_end.kind == "fbank":
            found = ast_features(own, n_frames=front_end.n_frames, mean=0.0, std=0.5, n_mels=front_end.n_mels)
            parts.append(found.values[found.valid].flatten().double())
        else:
            parts.append(log_mel(own, n_mels=front_end.n_mels).flatten().double())
    # From sums, and not from all values at once: a corpus has too many to keep.
    n = sum(part.numel() for part in parts)
    mean = float(torch.stack([part.sum() for part in parts]).sum()) / n
    std = (float(torch.stack([(part - mean).square().sum() for part in parts]).sum()) / n) ** 0.5
    if not std > 0:
        raise ValueError("the features of all clips are the same number: are the clips silent?")
    return FrontEnd(front_end.kind, front_end.n_frames, front_end.n_mels, mean, std, front_end.legacy_repeat)
