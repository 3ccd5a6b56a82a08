"""Where the tokens of a model lie on the spectrogram of its input, in seconds and hertz."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 7000, 10000, 15000, 20000)


@dataclass(frozen=True)
class TokenGrid:
    """Patches on a mel spectrogram, frequency-major: token P + f * t_dim + t is patch (f, t).

    Where patches overlap, a point belongs to the patch whose centre is nearest: the cells tile what the model sees.

    Attributes:
        n_mels: mel bins of the spectrogram.
        n_frames: frames of the spectrogram.
        patch: size of a patch in (mel bins, frames).
        stride: step between patches in (mel bins, frames).
        n_prefix: P, the tokens at the front that are not patches.
        hop_seconds: from frame to frame.
        window_seconds: what one frame looks at; it is drawn around the centre of its window.
        low_hz: lower edge of the lowest mel filter.
        high_hz: upper edge of the highest mel filter.

    Raises:
        ValueError: if not a single patch fits, or a stride is below 1.
    """

    n_mels: int
    n_frames: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    n_prefix: int
    hop_seconds: float = 0.01
    window_seconds: float = 0.025
    low_hz: float = 20.0
    high_hz: float = 8000.0

    def __post_init__(self) -> None:
        if min(self.stride) < 1 or min(self.shape) < 1:
            raise ValueError(
                f"patches of {self.patch} with stride {self.stride} do not fit {self.n_mels} mel bins by "
                f"{self.n_frames} frames"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Patches along (frequency, time)."""
        return (
            (self.n_mels - self.patch[0]) // self.stride[0] + 1,
            (self.n_frames - self.patch[1]) // self.stride[1] + 1,
        )

    @property
    def n_tokens(self) -> int:
        """N, prefix tokens and patches."""
        return self.n_prefix + self.shape[0] * self.shape[1]

    @property
    def unit(self) -> str:
        """What one cell is called: a frame where tokens are single frames of all frequencies, a patch otherwise."""
        return "frame" if self.shape[0] == 1 and self.patch[1] == 1 else "patch"

    @property
    def units(self) -> str:
        """What several cells are called."""
        return {"frame": "frames", "patch": "patches"}[self.unit]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The spectrogram's first and last second, first and last mel bin, as matplotlib's `imshow` takes them."""
        return self.seconds(0), self.seconds(self.n_frames), 0.0, float(self.n_mels)

    def seconds(self, frame: float) -> float:
        """Return the time at which frame `frame` begins in the picture: its window's centre less half a hop."""
        return (self.window_seconds - self.hop_seconds) / 2 + frame * self.hop_seconds

    def time_edges(self) -> np.ndarray:
        """Return the borders of the columns of cells in seconds, (t_dim + 1,)."""
        return np.array([self.seconds(edge) for edge in _edges(self.shape[1], self.patch[1], self.stride[1])])

    def mel_edges(self) -> np.ndarray:
        """Return the borders of the rows of cells in mel bins, (f_dim + 1,)."""
        return _edges(self.shape[0], self.patch[0], self.stride[0])

    def mel_position(self, hz: float) -> float:
        """Return where a frequency lies on the axis of mel bins; bin m, drawn from m to m + 1, has its peak at m + 0.5.

        Mel is 1127 ln(1 + f / 700), and the peaks of the filters are even on it, as in Kaldi and HTK.
        """
        low, high = _mel(self.low_hz), _mel(self.high_hz)
        return (_mel(hz) - low) / (high - low) * (self.n_mels + 1) - 0.5

    def ticks(self, apart: float = 0.07) -> tuple[list[float], list[str]]:
        """Return round frequencies as positions on the mel axis and their names in hertz.

        Args:
            apart: the least distance of two ticks, as a part of the axis.
        """
        positions: list[float] = []
        names = []
        for hz in _TICKS_HZ:
            place = self.mel_position(hz)
            if 0 <= place <= self.n_mels and (not positions or place - positions[-1] >= apart * self.n_mels):
                positions.append(place)
                names.append(f"{hz}")
        return positions, names


def _edges(count: int, patch: int, stride: int) -> np.ndarray:
    """Return the borders of `count` cells: half way between centres, and the ends of the first and last patch."""
    between = [patch / 2 + stride * (index + 0.5) for index in range(count - 1)]
    return np.array([0.0, *between, float(patch + stride * (count - 1))])


def _mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)
