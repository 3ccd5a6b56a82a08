"""The two front ends of few-shot models: segments of a waveform in, normalised spectrograms out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from tome_audio.audio.fbank import window_and_shift
from tome_audio.audio.features import ast_features
from tome_audio.audio.log_mel import log_mel, standardise, unit_variance
from tome_audio.audio.segments import segments

Kind = Literal["log-mel", "fbank"]
SAMPLE_RATE = 16000
_HOP = 512
_TENTH = SAMPLE_RATE // 10


@dataclass(frozen=True)
class FrontEnd:
    """How audio at 16 kHz becomes the input (B, T, F) of an encoder.

    "log-mel" is MetaAudio's (Heggan et al., 2022): clips less their mean and over their standard deviation, cut into
    segments of equal length, short ones repeated; Slaney mel in decibels, frames of 32 ms, (x - mean) / std. "fbank" is
    AST's: Kaldi filter bank, frames of 10 ms, (x - mean) / (2 std), short clips padded.

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
        """Samples of a segment: of log-mel the most whole tenths of a second that give so many frames."""
        if self.kind == "log-mel":
            fewest, most = (self.n_frames - 1) * _HOP, self.n_frames * _HOP - 1
            tenths = most // _TENTH * _TENTH
            return tenths if tenths >= fewest else fewest
        window, shift = window_and_shift(SAMPLE_RATE)
        return window + (self.n_frames - 1) * shift

    def segments(self, waveform: Tensor) -> Tensor:
        """Cut a waveform (T,) into segments (S, n_samples); of "fbank" a short clip stays as it is, (1, T)."""
        if self.kind == "fbank":
            return waveform[None] if len(waveform) <= self.n_samples else segments(waveform, self.n_samples)
        # The whole clip first: a quiet end stays quiet.
        return segments(unit_variance(waveform[None])[0], self.n_samples, legacy_repeat=self.legacy_repeat)

    def features(self, waveforms: Tensor | Sequence[Tensor]) -> Tensor:
        """Turn segments (B, n_samples), or clips of "fbank", into normalised features (B, T, F)."""
        if self.kind == "fbank":
            sizes = {"n_frames": self.n_frames, "n_mels": self.n_mels}
            return ast_features(waveforms, mean=self.mean, std=self.std, **sizes).values
        return standardise(log_mel(waveforms, n_mels=self.n_mels, normalise=False), self.mean, self.std)

    def facts(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def measured(front_end: FrontEnd, waveforms: Iterable[Tensor]) -> FrontEnd:
    """Return the front end with mean and standard deviation of these waveforms' features; padding does not count.

    Raises:
        ValueError: No waveforms, or features that are all the same number (silent clips).
    """
    # Sums in float64 and from the first value on, not all values at once: a corpus has too many to keep.
    n, total, squares, origin = 0, 0.0, 0.0, None
    for waveform in waveforms:
        own = front_end.segments(waveform)
        if front_end.kind == "fbank":
            found = ast_features(own, n_frames=front_end.n_frames, mean=0.0, std=0.5, n_mels=front_end.n_mels)
            values = found.values[found.valid].double()
        else:
            values = log_mel(own, n_mels=front_end.n_mels, normalise=False).double()
        origin = float(values.mean()) if origin is None else origin
        n += values.numel()
        total += float((values - origin).sum())
        squares += float((values - origin).square().sum())
    if origin is None:
        raise ValueError("there are no clips to measure mean and std on")
    variance = squares / n - (total / n) ** 2
    if not variance > 1e-12:
        raise ValueError("the features of all clips are the same number: are the clips silent?")
    return replace(front_end, mean=origin + total / n, std=variance**0.5)
