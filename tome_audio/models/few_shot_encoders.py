"""Small encoders of few-shot experiments: four convolutions, alone or with a recurrent layer (MetaAudio's Hybrid)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tome_audio.models.cnn import check_input, keep_channels_last

_N_BLOCKS = 4


class ConvEncoder(nn.Module):
    """Spectrograms (B, T frames, F mel bins) to embeddings (B, out_dim) by four convolutions and a linear layer.

    A block is a 3x3 convolution, batch norm, max pooling and ReLU; what is left of the picture is flattened, then
    dropout, batch norm and a linear layer. 116,224 parameters with the default settings.

    Args:
        n_mels: Mel bins of the input.
        n_frames: Frames of the input; 157 is 5 s with a hop of 512 samples at 16 kHz.
        width: Channels.
        dropout: Before the last layers, training only.
        out_dim: Size of an embedding.
        pool: How many bins and how many frames a pooling makes one of; short clips need (3, 2).

    Raises:
        ValueError: Four poolings leave nothing of the input, or a setting out of range.
    """

    def __init__(
        self,
        n_mels: int = 128,
        n_frames: int = 157,
        width: int = 64,
        dropout: float = 0.3,
        out_dim: int = 64,
        *,
        pool: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        _prepare(self, n_mels, n_frames, width, dropout, out_dim, pool)
        n_bins_left, n_frames_left = _left(n_mels, n_frames, pool)
        self.blocks = _blocks(width, pool)
        self.head = _head(width * n_bins_left * n_frames_left, dropout, out_dim)
        keep_channels_last(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn spectrograms (B, T frames, F mel bins) into embeddings (B, out_dim).

        Raises:
            ValueError: The input is not (B, n_frames, n_mels).
        """
        check_input(self, x)
        return self.head(self.blocks(x.unsqueeze(1)).flatten(1))


class CRNN(nn.Module):
    """Spectrograms (B, T frames, F mel bins) to embeddings (B, out_dim) by four convolutions and a recurrent layer.

    The blocks are those of `ConvEncoder`. What they leave of a moment, bins times channels, is a step of a tanh layer
    of the same size; its output plus its input at the last step goes through dropout, batch norm and a linear layer.
    124,544 parameters with the default settings, where 157 frames leave a single step.

    Args:
        n_mels: Mel bins of the input.
        n_frames: Frames of the input; 157 is 5 s with a hop of 512 samples at 16 kHz.
        width: Channels.
        dropout: Before the last layers, training only.
        out_dim: Size of an embedding.
        pool: How many bins and how many frames a pooling makes one of; short clips need (3, 2).

    Raises:
        ValueError: Four poolings leave nothing of the input, or a setting out of range.
    """

    def __init__(
        self,
        n_mels: int = 128,
        n_frames: int = 157,
        width: int = 64,
        dropout: float = 0.3,
        out_dim: int = 64,
        *,
        pool: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__()
        _prepare(self, n_mels, n_frames, width, dropout, out_dim, pool)
        step = width * _left(n_mels, n_frames, pool)[0]
        self.blocks = _blocks(width, pool)
        self.rnn = nn.RNN(step, step, batch_first=True)
        self.head = _head(step, dropout, out_dim)
        keep_channels_last(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn spectrograms (B, T frames, F mel bins) into embeddings (B, out_dim).

        Raises:
            ValueError: The input is not (B, n_frames, n_mels).
        """
        check_input(self, x)
        steps = self.blocks(x.unsqueeze(1)).permute(0, 2, 3, 1).flatten(2)  # (B, T', F' * channels)
        return self.head(self.rnn(steps)[0][:, -1] + steps[:, -1])


def _prepare(
    model: Any, n_mels: int, n_frames: int, width: int, dropout: float, out_dim: int, pool: Sequence[int]
) -> None:
    if min(width, out_dim) < 1 or not 0.0 <= dropout < 1.0:
        raise ValueError(
            f"width and out_dim must be positive and dropout in [0, 1), got {width}, {out_dim} and {dropout}"
        )
    if len(pool) != 2 or min(pool) < 1:
        raise ValueError(f"pool must be two positive numbers, of bins and of frames, got {tuple(pool)}")
    _check_poolings(n_mels, n_frames, pool)
    model.n_mels, model.n_frames, model.out_dim = n_mels, n_frames, out_dim
    model.init_args = {
        "n_mels": n_mels, "n_frames": n_frames, "width": width, "dropout": dropout, "out_dim": out_dim,
        "pool": list(pool),
    }  # fmt: skip


def _check_poolings(n_mels: int, n_frames: int, pool: Sequence[int]) -> None:
    sides = ("mel bins", n_mels), ("frames", n_frames)
    for (name, side), factor in zip(sides, pool, strict=True):
        if side < factor**_N_BLOCKS:
            fits = [min(p, max(int(s**0.25 + 1e-9), 1)) for (_, s), p in zip(sides, pool, strict=True)]
            raise ValueError(
                f"{_N_BLOCKS} poolings by {factor} leave nothing of {side} {name}: give at least "
                f"{factor**_N_BLOCKS}, or build the encoder with pool={tuple(fits)}"
            )


def _left(n_mels: int, n_frames: int, pool: Sequence[int]) -> tuple[int, int]:
    return n_mels // pool[0] ** _N_BLOCKS, n_frames // pool[1] ** _N_BLOCKS


def _blocks(width: int, pool: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in in (1, *[width] * (_N_BLOCKS - 1)):
        convolution = nn.Conv2d(n_in, width, 3, padding=1)
        # The largest of what ReLU leaves is what ReLU leaves of the largest: pooled first, it has a ninth to do, where
        # on a CPU it would take a third of the time.
        layers += [convolution, nn.BatchNorm2d(width), nn.MaxPool2d((pool[1], pool[0])), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _head(n_in: int, dropout: float, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.BatchNorm1d(n_in), nn.Linear(n_in, out_dim))
