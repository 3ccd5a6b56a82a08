"""Overlapping windows of an audio file, cut while it is read: memory does not grow with the file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tome_audio.audio.reading import AudioError
from tome_audio.audio.streaming import stream_audio
from tome_audio.retrieval.embedder import Embedder, FrameMaker, window_frames

OnSeconds = Callable[[float], None]

SHORTEST_SECONDS = 0.5
"""A file shorter than this is too short to be told from others."""

# The largest amplitude that still counts as silence: -80 dB, three steps of 16 bits.
_SILENCE = 1e-4
# A rest at the end of a file that no window covers gets one of its own, unless it is shorter than this part of one.
_SHORTEST_REST = 0.1


class Windows(NamedTuple):
    """Some windows of a file: where they begin in seconds (B,), float64, and their spectrograms (B, T, F)."""

    starts: Tensor
    values: Tensor


class Frames(NamedTuple):
    """Some frames of a file (T, F), and the largest amplitude of the samples of each (T,)."""

    values: Tensor
    peaks: Tensor


def stream_windows(
    path: str | os.PathLike[str],
    embedder: Embedder,
    *,
    hop: float | None = None,
    batch_size: int = 32,
    block_seconds: float = 60.0,
    on_seconds: OnSeconds | None = None,
) -> Iterator[Windows]:
    """Cut an audio file into windows and yield up to `batch_size` at a time.

    They are those of the file read at once, whatever `block_seconds` is. The last window ends where the file does, if
    the regular ones leave a tenth of a window or more. A file shorter than a window is padded with silence. Windows
    without sound are left out: silence is alike in all files.

    Args:
        path: Audio file of any rate and length.
        embedder: Says how long windows are, and makes spectrograms.
        hop: Seconds from one window to the next; None takes the embedder's.
        batch_size: Windows at a time.
        block_seconds: Audio whose spectrogram is made at a time.
        on_seconds: Called with the seconds read so far; the last call has the length of the file.

    Raises:
        AudioError: The file cannot be used. Its kind is "too short" below `SHORTEST_SECONDS`, "silent" without sound.
        ValueError: `hop`, `batch_size` or `block_seconds` is out of range.
    """
    hop = embedder.hop if hop is None else hop
    if not (math.isfinite(hop) and hop > 0) or batch_size < 1 or not block_seconds > 0:
        raise ValueError(
            f"hop and block_seconds must be positive seconds and batch_size at least 1, got {hop}, {block_seconds}, "
            f"{batch_size}"
        )
    length = window_frames(embedder)
    frames_per_second = embedder.sample_rate / embedder.frame_hop
    if hop * frames_per_second < 1:
        raise ValueError(f"hop must be at least a frame, {1 / frames_per_second:.4g} s, got {hop:.4g} s")
    block = max(length, math.ceil(min(block_seconds, 1e6) * frames_per_second))
    blocks = _checked(path, stream_audio(path, embedder.sample_rate), embedder.sample_rate, on_seconds)
    pieces = stream_frames(blocks, embedder, block)
    return _batches(path, pieces, length, hop * frames_per_second, 1 / frames_per_second, batch_size)


def _checked(
    path: str | os.PathLike[str], blocks: Iterable[Tensor], sample_rate: int, on_seconds: OnSeconds | None
) -> Iterator[Tensor]:
    n_samples = 0
    for block in blocks:
        n_samples += len(block)
        if on_seconds is not None:
            on_seconds(n_samples / sample_rate)
        yield block
    if n_samples < SHORTEST_SECONDS * sample_rate:
        raise AudioError(
            path,
            f"is {n_samples / sample_rate:.3g} s long where {SHORTEST_SECONDS:g} s are needed; give a longer recording",
            "too short",
        )


def stream_frames(blocks: Iterable[Tensor], embedder: FrameMaker, block: int) -> Iterator[Frames]:
    """Make the spectrogram of `block` frames at a time, with the audio around them that their values depend on."""
    hop, length = embedder.frame_hop, window_frames(embedder)
    margin = math.ceil(embedder.margin * embedder.sample_rate / hop)
    held, before = torch.zeros(0), 0  # frames at the front of what is held that are there for later ones alone
    first = True
    for samples in blocks:
        held = torch.cat([held, samples])
        while len(held) >= (needed := (before + block + margin) * hop):
            stretch = held[:needed]
            yield _cut(embedder.frames(stretch), stretch, hop, before, before + block)
            kept = max(0, before + block - margin)
            held, before, first = held[kept * hop :], before + block - kept, False
    values = embedder.frames(held)
    if first and len(values) < length:
        held = pad(held, (0, (length + margin) * hop - len(held)))
        values = embedder.frames(held)[:length]
        if len(values) < length:
            raise ValueError(f"frames() gives {len(values)} frames for {len(held)} samples where {length} are needed")
    yield _cut(values, held, hop, before, len(values))


def _cut(values: Tensor, samples: Tensor, hop: int, first: int, last: int) -> Frames:
    values = values[first:last]
    own = samples[first * hop : last * hop].abs()
    peaks = pad(own, (0, len(values) * hop - len(own))).view(len(values), hop).amax(1)
    return Frames(values, peaks)


def _batches(
    path: str | os.PathLike[str],
    pieces: Iterable[Frames],
    length: int,
    step: float,
    seconds_per_frame: float,
    batch_size: int,
) -> Iterator[Windows]:
    """Cut windows of `length` frames, `step` frames apart, and collect those with sound."""
    starts: list[float] = []
    windows: list[Tensor] = []
    silent = True
    for start, window, peak in _windows(pieces, length, step):
        if peak <= _SILENCE:
            continue
        silent = False
        starts.append(start * seconds_per_frame)
        windows.append(window)
        if len(windows) == batch_size:
            yield Windows(torch.tensor(starts, dtype=torch.float64), torch.stack(windows))
            starts, windows = [], []
    if windows:
        yield Windows(torch.tensor(starts, dtype=torch.float64), torch.stack(windows))
    if silent:
        raise AudioError(path, "is silent from beginning to end; record or export it again", "silent")


def _windows(pieces: Iterable[Frames], length: int, step: float) -> Iterator[tuple[int, Tensor, float]]:
    """Yield first frame, spectrogram (length, F) and largest amplitude of every window."""
    held: Frames | None = None
    begins = 0  # frame number at the front of what is held
    number, last = 0, -length
    for piece in pieces:
        held = piece if held is None else Frames(*(torch.cat(both) for both in zip(held, piece, strict=True)))
        while (start := round(number * step)) + length <= begins + len(held.values):
            yield start, *_window(held, start - begins, length)
            number, last = number + 1, start
        # The last window of the file may begin before the next regular one.
        kept = max(0, min(start - begins, len(held.values) - length))
        held, begins = Frames(held.values[kept:], held.peaks[kept:]), begins + kept
    assert held is not None  # there is always a last piece
    start = begins + len(held.values) - length
    if start > last and (last < 0 or start - last >= _SHORTEST_REST * length):
        yield start, *_window(held, start - begins, length)


def _window(held: Frames, first: int, length: int) -> tuple[Tensor, float]:
    return held.values[first : first + length], float(held.peaks[first : first + length].max())
