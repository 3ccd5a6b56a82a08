"""The AST front end: waveforms of any length to normalised log-mel frames of one length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tome_audio.audio.clip_checks import checked_clips
from tome_audio.audio.fbank import kaldi_fbank, window_and_shift


@dataclass(frozen=True)
class AstStatistics:
    """Input length and normalisation that a set of AST weights was trained with."""

    n_frames: int
    mean: float
    std: float


AST_STATISTICS: Mapping[str, AstStatistics] = MappingProxyType(
    {
        "audioset": AstStatistics(1024, -4.2677393, 4.5689974),
        "esc50": AstStatistics(512, -6.6268077, 5.358466),
        "speechcommands": AstStatistics(128, -6.845978, 5.5654526),
    }
)
"""By data set, from "AST: Audio Spectrogram Transformer" (Gong et al., 2021) and its recipes."""


class Features(NamedTuple):
    """Model input ``values`` of shape (B, N, M) and ``valid`` of shape (B, N): True where audio was seen."""

    values: Tensor
    valid: Tensor


def pad_or_cut(features: Tensor, n_frames: int) -> Features:
    """Bring (N, M) or (B, N, M) features to ``n_frames`` frames: zeros after the end, or the head part.

    Args:
        features: frames of one clip (N, M) or of a batch (B, N, M).
        n_frames: wanted number of frames, at least 1.

    Returns:
        values of shape (..., n_frames, M) and valid of shape (..., n_frames), False on the padding.

    Raises:
        ValueError: wrong number of dimensions, or ``n_frames`` below 1.
    """
    if features.dim() not in (2, 3):
        raise ValueError(f"features must be (N, M) or (B, N, M), got shape {tuple(features.shape)}")
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, got {n_frames}")
    given = features.shape[-2]
    values = F.pad(features[..., :n_frames, :], (0, 0, 0, max(0, n_frames - given)))
    valid = torch.arange(n_frames, device=features.device) < given
    return Features(values, valid.expand(values.shape[:-1]).clone())


def normalise(features: Tensor, mean: float, std: float) -> Tensor:
    """(x - mean) / (2 std), which gives AST a mean of 0 and a standard deviation of 0.5 (any shape).

    Args:
        features: log-mel features of any shape.
        mean: mean of the training set's features.
        std: standard deviation of the training set's features.

    Raises:
        ValueError: ``std`` is not positive.
    """
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}")
    return (features - mean) / (2.0 * std)


def ast_features(
    waveforms: Tensor | Sequence[Tensor],
    *,
    n_frames: int,
    mean: float,
    std: float,
    n_mels: int = 128,
    sample_rate: int = 16000,
) -> Features:
    """AST's features: subtract each clip's mean, Kaldi filter bank, pad or cut, then normalise.

    Padding is 0 before normalisation, hence above the mean after it, as AST was trained. Every clip gets what
    it would get alone, whatever else is in the batch. A clip shorter than one 25 ms window is zero-padded to
    one window, after its own mean is subtracted. Frames that the cut drops are not computed.

    Args:
        waveforms: clips of shape (T_i,) in a sequence, or one (B, T) tensor, of one float dtype and device.
        n_frames: frames N per clip, one per 10 ms.
        mean: mean of the training set's features.
        std: standard deviation of the training set's features.
        n_mels: number of mel filters M.
        sample_rate: of the waveforms, in Hz.

    Returns:
        values (B, N, M) in the dtype of the waveforms, and valid (B, N).

    Raises:
        ValueError: no clips, wrong shape, integer dtype, mixed dtypes or devices, NaN or infinite samples.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, got {n_frames}")
    clips = checked_clips(waveforms)
    window, shift = window_and_shift(sample_rate)
    needed = window + (n_frames - 1) * shift
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        by_length[max(window, min(len(clip), needed))].append(index)

    parts = []
    for length, indices in by_length.items():
        group = torch.stack([_centred(clips[i], length) for i in indices])
        parts.append(pad_or_cut(kaldi_fbank(group, sample_rate=sample_rate, n_mels=n_mels), n_frames))
    # Back from the order of the groups to that of the clips.
    order = [i for indices in by_length.values() for i in indices]
    back = torch.tensor(order, device=parts[0].values.device).argsort()
    values = torch.cat([part.values for part in parts])[back]
    valid = torch.cat([part.valid for part in parts])[back]
    return Features(normalise(values, mean, std), valid)


class AstFeatures(nn.Module):
    """Module around ``ast_features``; without parameters or buffers, so its state_dict is empty.

    Args:
        n_frames: frames N per clip, one per 10 ms.
        mean: mean of the training set's features.
        std: standard deviation of the training set's features.
        n_mels: number of mel filters M.
        sample_rate: of the waveforms, in Hz.
    """

    def __init__(
        self,
        n_frames: int = 1024,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        n_mels: int = 128,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        self.n_frames = n_frames
        self.mean = mean
        self.std = std
        self.n_mels = n_mels
        self.sample_rate = sample_rate

    @classmethod
    def for_dataset(cls, name: str) -> AstFeatures:
        """The front end of the AST weights for one of ``AST_STATISTICS``'s data sets.

        Raises:
            ValueError: an unknown name.
        """
        if name not in AST_STATISTICS:
            raise ValueError(f"no AST statistics for {name!r}: choose one of {', '.join(AST_STATISTICS)}")
        statistics = AST_STATISTICS[name]
        return cls(statistics.n_frames, statistics.mean, statistics.std)

    def forward(self, waveforms: Tensor | Sequence[Tensor]) -> Features:
        """Features of shape (B, N, M) and their validity (B, N); see ``ast_features``."""
        return ast_features(
            waveforms,
            n_frames=self.n_frames,
            mean=self.mean,
            std=self.std,
            n_mels=self.n_mels,
            sample_rate=self.sample_rate,
        )

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        names = ("n_frames", "mean", "std", "n_mels", "sample_rate")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _centred(clip: Tensor, length: int) -> Tensor:
    """The clip less its mean, cut or zero-padded to ``length`` samples."""
    # The mean is that of the whole clip and no padding, accumulated in float32 at least.
    mean = clip.mean(dtype=torch.promote_types(clip.dtype, torch.float32)).to(clip.dtype)
    head = clip[:length] - mean
    return F.pad(head, (0, length - len(head)))
