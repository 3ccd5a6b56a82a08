"""Mean and standard deviation of the features a model is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tome_audio.audio.features import AstStatistics, ast_features


def feature_statistics(
    waveforms: Sequence[Tensor], n_frames: int, sample_rate: int = 16000, n_mels: int = 128
) -> AstStatistics:
    """Measure mean and standard deviation of log-mel features over all bins and all frames of audio.

    Padding and what `n_frames` cuts off do not count. Give the training clips alone; the model's input is
    then `AstFeatures(n_frames, found.mean, found.std)`.

    Args:
        waveforms: Clips (T,), of any lengths.
        n_frames: Frames of the model's input.
        sample_rate: Of the waveforms, in Hz.
        n_mels: Mel bins.

    Raises:
        ValueError: No waveforms, or features that are all the same (silent clips).
    """
    values, valid = ast_features(
        waveforms, n_frames=n_frames, mean=0.0, std=0.5, n_mels=n_mels, sample_rate=sample_rate
    )
    # In float64: a corpus has more values than float32 can add up exactly enough.
    std, mean = (float(moment) for moment in torch.std_mean(values[valid].double()))
    if not std > 0:
        raise ValueError("the features of all clips are the same number: are the clips silent?")
    return AstStatistics(n_frames, mean, std)
