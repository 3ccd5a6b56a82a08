"""Reading audio files into mono float32 waveforms at one sample rate."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from tome_audio.audio.completeness import missing_part
from tome_audio.installation import import_matched

_BLOCK_VALUES = 2**20
# Rates outside this range come from damaged headers; resampling from them would fill the memory.
_PLAUSIBLE_RATES = (1_000, 1_000_000)
# Resampling between rates with a small common divisor builds a filter of this many values and more.
_MAX_RESAMPLING_FILTER = 2**25
# Full scale is 1. Hot float files reach a few times that; integers stored as floats go far beyond.
_MAX_PEAK = 16.0


class AudioError(ValueError):
    """A file that cannot be read as audio; the message starts with its path and says what to do.

    `kind` is "missing", "empty", "truncated", "not finite" or, for all else, "damaged". Where a clip has to be of use
    beyond being readable, it can be "silent" or "too short".
    """

    def __init__(self, path: str | os.PathLike[str], problem: str, kind: str = "damaged") -> None:
        super().__init__(f"{os.fspath(path)}: {problem}")
        self.path = os.fspath(path)
        self.problem = problem
        self.kind = kind

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str, str]]:
        # Errors travel between data loader workers by pickle, which would call with one argument.
        return type(self), (self.path, self.problem, self.kind)


def read_audio(path: str | os.PathLike[str], sample_rate: int = 16000, *, max_seconds: float | None = None) -> Tensor:
    """Read an audio file as one mono float32 waveform of shape (T,) in [-1, 1].

    Content decides the format, not the extension: WAV, FLAC, Ogg (Vorbis, Opus), MP3 and what else
    libsndfile decodes, of 8 to 32 bits or float, any number of channels (mixed down by their mean) and
    any common rate (resampled by ``torchaudio.functional.resample``). Peaks that pass full scale in a
    float file, in a lossy codec or through resampling are clipped to [-1, 1], as 16-bit files would.
    A silent file is returned as it is; see ``is_silent``.

    A file that was cut short is an error wherever its format can tell. An MP3 file without a Xing header
    cannot, nor can containers other than WAV, FLAC and Ogg: what is there is returned.

    Args:
        path: the file.
        sample_rate: wanted rate in Hz.
        max_seconds: read at most this many seconds from the start; what follows is not looked at.

    Returns:
        Waveform of shape (T,), T >= 1, at ``sample_rate``.

    Raises:
        AudioError: no such file, or content that is not usable as audio.
        ImportError: the rate has to change and torchaudio cannot be imported.
        ValueError: ``sample_rate`` or ``max_seconds`` is not positive.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    if max_seconds is not None and not (math.isfinite(max_seconds) and max_seconds > 0):
        raise ValueError(f"max_seconds must be a positive number of seconds or None, got {max_seconds}")
    samples, rate = _decode(path, max_seconds)
    waveform = resampled(path, torch.from_numpy(samples), rate, sample_rate)
    if max_seconds is not None:
        waveform = waveform[: max(1, round(max_seconds * sample_rate))]
    return waveform.clamp(-1.0, 1.0)


def audio_seconds(path: str | os.PathLike[str]) -> float:
    """Decode a whole file, check it as `read_audio` does, and return its length in seconds.

    Raises:
        AudioError: no such file, or content that is not usable as audio.
    """
    samples, rate = _decode(path, None)
    return len(samples) / rate


def is_silent(waveform: Tensor, threshold: float = 0.0) -> bool:
    """Whether no sample of a waveform of any shape exceeds the threshold in size (NaN is not silence).

    Args:
        waveform: samples of any shape; without any it is silent.
        threshold: largest amplitude that still counts as silence, full scale being 1.
    """
    return bool((waveform.abs() <= threshold).all())


class _ForwardOnly(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A sound file read from front to back, in blocks.

    After every read soundfile seeks to where it already is. That is inexact for MP3 (blocks would not join)
    and fails for FLAC streams of unknown length; it is left out for files that cannot seek.
    """

    def seekable(self) -> bool:
        return False


def _check_is_file(path: str | os.PathLike[str]) -> None:
    file = Path(path)
    try:
        is_there = file.exists()
    except OSError as error:  # such as a name longer than the file system allows
        raise AudioError(path, f"cannot be looked up ({error.strerror or error}); check the path") from error
    if file.is_dir():
        raise AudioError(path, "is a folder; give the path of one audio file")
    if not is_there:
        raise AudioError(path, "no such file; check the path", "missing")
    if not file.is_file():
        raise AudioError(path, "is not a regular file; save the audio to a file first")
    if file.stat().st_size == 0:
        raise AudioError(path, "is empty (0 bytes); fetch or record it again", "empty")


def decoded_blocks(path: str | os.PathLike[str], max_seconds: float | None = None) -> Iterator[tuple[np.ndarray, int]]:
    """Decode a file from front to back; yield blocks (T,) of the mean of its channels, and its rate in Hz.

    A file that was cut short is noticed at its end, after its blocks.

    Raises:
        AudioError: no such file, or content that is not usable as audio.
    """
    _check_is_file(path)
    try:
        # By descriptor, so that neither soundfile nor libsndfile looks at the extension.
        with Path(path).open("rb") as file, _ForwardOnly(file.fileno(), closefd=False) as sound:
            rate = sound.samplerate
            if not _PLAUSIBLE_RATES[0] <= rate <= _PLAUSIBLE_RATES[1]:
                raise AudioError(path, f"its header gives {rate} Hz as sample rate; repair or replace it")
            limit = None if max_seconds is None else math.ceil(max_seconds * rate)
            n_samples = 0
            for block in _read_blocks(path, sound, limit):
                n_samples += len(block)
                yield block, rate
            reached_end = limit is None or n_samples < limit
            if reached_end and (missing := missing_part(file, sound.format, sound.frames, n_samples)):
                raise AudioError(path, f"is cut short ({missing}); fetch or record it again", "truncated")
            if n_samples == 0:
                raise AudioError(path, "holds no samples; record or export it again", "empty")
    except AudioError:
        raise
    except OSError as error:
        raise AudioError(path, f"cannot be opened ({error.strerror or error}); check its permissions") from error
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        reason = str(getattr(error, "error_string", "") or error or type(error).__name__).strip().rstrip(".")
        raise AudioError(
            path,
            f"cannot be decoded as audio (libsndfile: {reason}); it is damaged or not audio: replace it, or "
            "convert it to WAV, FLAC, Ogg or MP3",
        ) from error


def _decode(path: str | os.PathLike[str], max_seconds: float | None) -> tuple[np.ndarray, int]:
    """Decode to float32 samples (T,), the mean of the channels, and the file's rate in Hz."""
    blocks, rates = zip(*decoded_blocks(path, max_seconds), strict=True)
    return np.concatenate(blocks), rates[0]


def _read_blocks(path: str | os.PathLike[str], sound: soundfile.SoundFile, limit: int | None) -> Iterator[np.ndarray]:
    """Read up to ``limit`` frames and mix them down to blocks (T,).

    By blocks, so that neither a lying header nor hundreds of channels can claim all memory at once.
    """
    block = max(1, _BLOCK_VALUES // sound.channels)
    # Not past the promised end: a tag appended to a FLAC file would count as damage.
    left = sound.frames if limit is None else min(limit, sound.frames)
    while left > 0:
        frames = sound.read(min(block, left), dtype="float32", always_2d=True)
        if len(frames) == 0:
            break
        _check_frames(path, frames)
        yield frames.mean(axis=1, dtype=np.float32)
        left -= len(frames)


def _check_frames(path: str | os.PathLike[str], frames: np.ndarray) -> None:
    peak = float(np.abs(frames).max())
    if not math.isfinite(peak):
        raise AudioError(path, "holds NaN or infinite samples; export it again or leave it out", "not finite")
    if peak > _MAX_PEAK:
        raise AudioError(
            path, f"has a peak of {peak:.6g} where full scale is 1; scale it to [-1, 1] and write it again"
        )


def resampled(path: str | os.PathLike[str], waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """Change the rate of a waveform (T,) in Hz, giving (ceil(T * wanted / rate),); the path is for error messages.

    Raises:
        AudioError: the rates have no useful common divisor.
        ImportError: torchaudio cannot be imported.
    """
    if rate == wanted:
        return waveform
    common = math.gcd(rate, wanted)
    if (rate // common) * (wanted // common) > _MAX_RESAMPLING_FILTER:
        raise AudioError(
            path, f"its rate of {rate} Hz shares no useful divisor with {wanted} Hz; convert it to {wanted} Hz first"
        )
    functional = import_matched(
        "torchaudio.functional", f"{os.fspath(path)}: changing the rate from {rate} to {wanted} Hz"
    )
    changed: Tensor = functional.resample(waveform, rate, wanted)
    return changed
