"""What the page answers: one clip, heard with and without merging, and what merging saved."""

from __future__ import annotations

import copy
import io
import math
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from tome_audio.audio import AudioError, is_silent, read_audio
from tome_audio.cli.classify import Labels, top_labels
from tome_audio.cli.clip_view import SAMPLE_RATE
from tome_audio.cli.inspect import count_tokens
from tome_audio.cli.loading import LoadedModel
from tome_audio.cli.visualize import MergedClip, draw_merged, merge_clip, seconds_heard
from tome_audio.merge import ComputeTarget
from tome_audio.patch import apply_patch, reachable_target
from tome_audio.profiling import Ratio, interleaved_for, latency, ratio

MAX_SECONDS = 60.0
LARGEST_TARGET = 10.0
_TIMED_SECONDS = 0.7
BATCH, _QUICK_MS = 16, 40.0  # a batch is timed too where one clip takes no longer
_UNHEARD = 0.1  # of a clip, which is worth a word
_DOTS_PER_INCH = 110


class ClipError(ValueError):
    """A clip or a target the page cannot use; the message is for the person at the page and holds no path."""


@dataclass(frozen=True)
class Pair:
    """A model as it is and a patched copy; `n_tokens` enter both, and `reachable` is the copy's largest target.

    One clip at a time: the lock keeps the timings of two people apart, and the target of one from the other.
    """

    loaded: LoadedModel
    merged: LoadedModel
    n_tokens: int
    reachable: float
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def largest_target(self) -> float:
        """The largest target the page offers: ten, or what the model reaches, to a tenth below."""
        return min(LARGEST_TARGET, math.floor(10 * self.reachable) / 10)


@dataclass(frozen=True)
class Answer:
    """What was heard in a clip, most probable label first, and what merging saved.

    `speedup` and the milliseconds are of the model alone, one clip at a time, taken in turns on this machine;
    `batch_speedup` is that of `BATCH` copies of the clip at once, where that does not take long.
    """

    unmerged: Labels
    merged: Labels
    clip: MergedClip
    speedup: Ratio
    batch_speedup: Ratio | None
    unmerged_ms: float
    merged_ms: float
    notes: tuple[str, ...]

    @property
    def macs_cut(self) -> float:
        """How many times fewer MACs the model's blocks took."""
        return self.clip.report.macs_cut

    @property
    def tokens_in(self) -> int:
        """How many tokens entered, prefix tokens included."""
        return self.clip.report.tokens[0] + sum(self.clip.report.before)

    @property
    def tokens_out(self) -> int:
        """How many tokens were left after the last block."""
        return self.clip.report.tokens[-1]


def make_pair(loaded: LoadedModel) -> Pair:
    """Return a model and a patched copy of it, after a first clip of noise has gone through both.

    Raises:
        ValueError: if the model cannot name what it hears, cannot be patched, or has no tokens on a spectrogram.
    """
    loaded.need_labels()
    merged = replace(loaded, model=apply_patch(copy.deepcopy(loaded.model)))
    n_tokens = count_tokens(loaded)
    pair = Pair(loaded, merged, n_tokens, reachable_target(merged.model, n_tokens))
    if pair.largest_target <= 1:
        raise ValueError(f"{loaded.name} has {n_tokens} tokens, of which too few can merge: there is nothing to show")
    noise = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0)).mul(0.1).clamp(-1, 1)
    merge_clip(merged, noise, ComputeTarget(min(2.0, pair.largest_target)))
    return pair


def hear(
    pair: Pair, path: str | os.PathLike[str], target: float, *, max_seconds: float = MAX_SECONDS, top_k: int = 5
) -> Answer:
    """Hear an audio file with and without merging.

    Args:
        pair: the model.
        path: audio file.
        target: how many times fewer MACs are wanted.
        max_seconds: longer clips are refused.
        top_k: labels to give.

    Raises:
        ClipError: if the file is no usable audio or too long, or the target is out of reach.
    """
    rate = _check_target(pair, target)
    waveform = read_clip(path, max_seconds)
    with pair.lock:
        return _hear(pair, waveform, rate, top_k)


def read_clip(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> Tensor:
    """Read an audio file as a waveform (T,) at 16 kHz.

    Raises:
        ClipError: if it is no usable audio, or longer than `max_seconds`; it is named without its folder.
    """
    name = Path(path).name
    try:
        # A little more than is allowed, to see that it is more; what comes after is not decoded.
        waveform = read_audio(path, SAMPLE_RATE, max_seconds=max_seconds + 0.1)
    except AudioError as error:
        raise ClipError(f"{name}: {error.problem}") from error
    except ImportError as error:
        raise ClipError(
            f"{name}: its sample rate has to change, and torchaudio, which does that, cannot be used on this computer; "
            f"convert it to {SAMPLE_RATE} Hz"
        ) from error
    if len(waveform) > max_seconds * SAMPLE_RATE:
        raise ClipError(f"{name}: is longer than {max_seconds:g} seconds; give a part of it")
    return waveform


def draw_picture(answer: Answer) -> bytes:
    """Return the clip's spectrogram with its merged tokens as a PNG."""
    title = f"heard as {answer.merged[0][0]}, {describe_answer(answer)}"
    figure = draw_merged(answer.clip, "final", title)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    return file.getvalue()


def describe_answer(answer: Answer) -> str:
    """Return what the slider did, such as `3.0x fewer MACs, 99 → 14 tokens`."""
    return f"{answer.macs_cut:.1f}x fewer MACs, {answer.tokens_in} → {answer.tokens_out} tokens"


def _check_target(pair: Pair, target: float) -> ComputeTarget:
    if not 1 <= target < math.inf:  # false for NaN too
        raise ClipError(f"The compute target should be between 1 and {pair.largest_target:g}, not {target:g}")
    if target > pair.reachable:
        raise ClipError(
            f"{target:g} times fewer MACs are out of reach: this model with its {pair.n_tokens} tokens reaches "
            f"{math.floor(10 * pair.reachable) / 10:g} at most; ask for less"
        )
    return ComputeTarget(target)


@torch.inference_mode()
def _hear(pair: Pair, waveform: Tensor, rate: ComputeTarget, top_k: int) -> Answer:
    assert pair.loaded.prepare is not None  # make_pair has seen it
    features = pair.loaded.prepare([waveform])
    output = pair.loaded.model(features)
    logits = getattr(output, "logits", output)[0]
    clip = merge_clip(pair.merged, waveform, rate)
    seconds = _time(pair, features)
    unmerged_ms = latency(seconds["unmerged"]).median_ms
    in_batch = None
    if unmerged_ms <= _QUICK_MS:
        together = _time(pair, features.repeat(BATCH, *[1] * (features.ndim - 1)))
        in_batch = ratio(together["unmerged"], together["merged"])
    return Answer(
        unmerged=top_labels(pair.loaded, logits, top_k),
        merged=top_labels(pair.loaded, clip.output, top_k),
        clip=clip,
        speedup=ratio(seconds["unmerged"], seconds["merged"]),
        batch_speedup=in_batch,
        unmerged_ms=unmerged_ms,
        merged_ms=latency(seconds["merged"]).median_ms,
        notes=_notes(clip, waveform),
    )


def _time(pair: Pair, features: Tensor) -> dict[str, list[float]]:
    """Return the seconds of both models in turns; a few turns, since somebody waits for the answer."""
    return interleaved_for(
        {"unmerged": lambda: pair.loaded.model(features), "merged": lambda: pair.merged.model(features)},
        seconds=_TIMED_SECONDS, fewest=3, most=31,
    )  # fmt: skip


def _notes(clip: MergedClip, waveform: Tensor) -> tuple[str, ...]:
    notes = []
    if is_silent(waveform):
        notes.append("Every sample of this clip is zero: the labels are what the model makes of silence.")
    seen, seconds = seconds_heard(clip.view), len(waveform) / SAMPLE_RATE
    if seconds * (1 - _UNHEARD) > seen:
        notes.append(f"The model hears the first {seen:.2f} s of {seconds:.2f} s.")
    return tuple(notes)
