"""Audio files of any length as blocks of a mono waveform, in memory that does not grow with the file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tome_audio.audio.reading import decoded_blocks, resampled

# torchaudio's resampling filter: zero crossings on each side, and the part of the band that it keeps.
_FILTER_WIDTH = 6
_ROLLOFF = 0.99
_BLOCK_SAMPLES = 2**19


def stream_audio(path: str | os.PathLike[str], sample_rate: int = 16000) -> Iterator[Tensor]:
    """Read an audio file in blocks (T_i,) that, one behind the other, are what `read_audio` returns.

    A block is made of up to a million samples of the file, of all channels together. That a file was cut short is known
    at its end: the error comes after its blocks.

    Args:
        path: the file.
        sample_rate: wanted rate in Hz.

    Raises:
        AudioError: no such file, or content that is not usable as audio.
        ImportError: the rate has to change and torchaudio cannot be imported.
        ValueError: ``sample_rate`` is not positive.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    return _stream(path, sample_rate)


def _stream(path: str | os.PathLike[str], sample_rate: int) -> Iterator[Tensor]:
    decoded = decoded_blocks(path)
    first, rate = next(decoded)  # a file without a block is an error before this
    blocks = _with_first(torch.from_numpy(first), (torch.from_numpy(block) for block, _ in decoded))
    if rate != sample_rate:
        blocks = _resampled_blocks(path, blocks, rate, sample_rate)
    for block in blocks:
        yield block.clamp(-1.0, 1.0)


def _with_first(first: Tensor, rest: Iterable[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest


def _resampled_blocks(
    path: str | os.PathLike[str], blocks: Iterable[Tensor], rate: int, wanted: int
) -> Iterator[Tensor]:
    """Resample block by block: each with as many samples around it as the filter reaches, which are cut off again.

    Blocks begin at multiples of rate / gcd, where an input sample and an output sample fall together: the filter has
    the same phases there as in the whole waveform. They are of one length, since PyTorch keeps memory for every length
    that it has seen.
    """
    common = math.gcd(rate, wanted)
    unit, out_unit = rate // common, wanted // common
    reach = math.ceil(_FILTER_WIDTH / (min(unit, out_unit) * _ROLLOFF)) + 1  # in units of input
    step = max(1, _BLOCK_SAMPLES // unit)
    before = 0  # units at the front of what is held that are there for the filter alone
    held = torch.zeros(0)
    for block in blocks:
        held = torch.cat([held, block])
        while len(held) >= (needed := (before + step + reach) * unit):
            ready = before + step
            yield resampled(path, held[:needed], rate, wanted)[before * out_unit : ready * out_unit]
            kept = max(0, ready - reach)
            held, before = held[kept * unit :], ready - kept
    yield resampled(path, held, rate, wanted)[before * out_unit :]
