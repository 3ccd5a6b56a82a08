"""What embeds windows of songs: an encoder of `tome-audio sampleid train`, or a trained classifier as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tome_audio.audio.fbank import window_and_shift
from tome_audio.audio.front_end import FrontEnd
from tome_audio.audio.spectrogram_flips import stretched, transposed
from tome_audio.audio.vqt import VqtFrontEnd, peak_normalised
from tome_audio.cli.fewshot.embedders import load_embedder, weights_checksum
from tome_audio.cli.rates import rate_name
from tome_audio.cli.sampleid.train import WINDOWS
from tome_audio.merge import Rate
from tome_audio.models import CheckpointError, SongEncoder, load_checkpoint
from tome_audio.patch import apply_patch, set_r

_FRAMES = 500  # of 10 ms, where a model does not say how much it takes


@dataclass(frozen=True)
class SongEmbedder:
    """Windows on a scale of semitones, and the encoder that was trained on them.

    Attributes:
        model: Maps windows in decibels (B, T, F) to embeddings (B, D) of length 1; in eval mode.
        front_end: From waveforms to power.
        window: Seconds.
        hop: Seconds from window to window in the index.
        facts: All that embeddings depend on, as plain values.
        variant_facts: Semitones and tempo ratio of each variant of a query that is searched for.
    """

    model: nn.Module
    front_end: VqtFrontEnd
    window: float
    hop: float
    facts: Mapping[str, Any]
    variant_facts: Sequence[tuple[float, float]] = ((0.0, 1.0),)

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz."""
        return self.front_end.sample_rate

    @property
    def frame_hop(self) -> int:
        """Samples from frame to frame."""
        return self.front_end.hop

    @property
    def margin(self) -> float:
        """Seconds of audio on both sides that a frame depends on: the longest filter, and changes of rate."""
        return 0.5

    @property
    def n_frames(self) -> int:
        """Frames of a window."""
        return round(self.window * self.sample_rate / self.frame_hop)

    @property
    def n_dims(self) -> int:
        """D, the length of an embedding."""
        return len(self.embed(torch.ones(1, self.n_frames, self.front_end.n_bins))[0])

    @property
    def network(self) -> nn.Module:
        """What `embed` runs."""
        return self.model

    def frames(self, waveform: Tensor) -> Tensor:
        """Turn a waveform (T,) into power (frames, F); the middle of frame i is sample i * frame_hop."""
        return self.front_end.power(waveform)

    def embed(self, windows: Tensor) -> Tensor:
        """Embed windows of power (B, T, F) as (B, D), of length 1."""
        with torch.inference_mode():
            found: Tensor = self.model(peak_normalised(windows)).float()
        return found

    def variants(self, windows: Tensor) -> Tensor:
        """Undo what may have been done to a sample: windows (B, T, F) to variants (B, V, T, F).

        Variant v is how the original sounds if the sample in the song is `variant_facts[v]` higher and faster. A window
        that is slowed down keeps its middle.
        """
        made = []
        for semitones, ratio in self.variant_facts:
            found = windows
            if ratio != 1.0:
                found = _about_the_middle(found, 1.0 / ratio)
            if semitones:
                found = transposed(found, -semitones, self.front_end.bins_per_octave)
            made.append(found)
        return torch.stack(made, 1)


def _about_the_middle(windows: Tensor, ratio: float) -> Tensor:
    n_frames = windows.shape[-2]
    spare = n_frames - n_frames * ratio
    if spare > 0:  # the window holds more than is played: leave as much out on both sides
        return stretched(windows[..., round(spare / 2) :, :], ratio, n_frames)
    played = stretched(windows, ratio, n_frames)
    return played.roll(round((n_frames - n_frames / ratio) / 2), -2)


@dataclass(frozen=True)
class ClassifierEmbedder:
    """A classifier without its last layer, with its own front end; it was never trained to find samples.

    Attributes:
        model: Maps features (B, T, F) to embeddings (B, D); in eval mode.
        prepare: From waveforms to features.
        window: Seconds.
        hop: Seconds from window to window in the index.
        facts: All that embeddings depend on, as plain values.
        variant_facts: One variant: the window as it is.
    """

    model: nn.Module
    prepare: Any
    window: float
    hop: float
    facts: Mapping[str, Any]
    variant_facts: Sequence[tuple[float, float]] = ((0.0, 1.0),)
    sample_rate: int = 16000
    margin: float = 0.0

    @property
    def frame_hop(self) -> int:
        """Samples of a frame: 10 ms."""
        return window_and_shift(self.sample_rate)[1]

    @property
    def n_frames(self) -> int:
        """Frames of a window."""
        return round(self.window * self.sample_rate / self.frame_hop)

    @property
    def n_dims(self) -> int:
        """D, the length of an embedding."""
        return len(self.embed(torch.zeros(1, self.n_frames, self.frame_hop))[0])

    @property
    def network(self) -> nn.Module:
        """What `embed` runs on features."""
        return self.model

    def frames(self, waveform: Tensor) -> Tensor:
        """Cut a waveform (T,) into frames (frames, samples of 10 ms); the features come later, window by window."""
        whole = waveform[: len(waveform) // self.frame_hop * self.frame_hop]
        return whole.unflatten(0, (-1, self.frame_hop))

    def embed(self, windows: Tensor) -> Tensor:
        """Embed windows of samples (B, frames, samples) as (B, D), of length 1."""
        with torch.inference_mode():
            found: Tensor = self.model(self.prepare.features(list(windows.flatten(1)))).float()
        return F.normalize(found, dim=-1)

    def variants(self, windows: Tensor) -> Tensor:
        """Return the windows as the one variant of themselves, (B, 1, frames, samples)."""
        return windows.unsqueeze(1)


def load_song_embedder(
    name: str,
    r: Rate | None = 0,
    *,
    hop: float | None = None,
    transpositions: Sequence[float] = (0.0,),
    tempi: Sequence[float] = (1.0,),
) -> SongEmbedder | ClassifierEmbedder:
    """Load what embeds windows of songs, merging at r.

    Args:
        name: A checkpoint of `tome-audio sampleid train`, or anything that `tome-audio fewshot evaluate` takes: an
            audio classifier of ours, an official AST, a Hugging Face AST, kwt1.npz.
        r: How many tokens merge; None leaves the model unpatched.
        hop: Seconds from window to window; None takes what the encoder was trained for, half a window otherwise.
        transpositions: Semitones that are tried for a query.
        tempi: Tempo ratios that are tried for a query, each with every transposition.

    Raises:
        CheckpointError: It cannot be read.
        ValueError: It cannot embed, its tokens cannot be merged, or a classifier is to try variants.
    """
    variants = tuple((float(semitones), float(ratio)) for ratio in tempi for semitones in transpositions)
    if not variants or any(not ratio > 0 for _, ratio in variants):
        raise ValueError("give at least one transposition and one tempo ratio, and positive ratios")
    if name.endswith(".safetensors"):
        model, metadata = load_checkpoint(name)
        if isinstance(model, SongEncoder):
            if "front_end" not in metadata.extra.get(WINDOWS, {}):
                raise CheckpointError(f"{name} does not say what its windows are: train it with `tome-audio sampleid`")
            given = metadata.extra[WINDOWS]
            facts = {"model": weights_checksum(model), "front_end": given["front_end"], "window": given["window"]}
            merged, front_end = _merging(model, r, facts), VqtFrontEnd(**given["front_end"])
            return SongEmbedder(merged, front_end, given["window"], hop or given["hop"], facts, variants)
    if variants != ((0.0, 1.0),):
        raise ValueError(f"{name} is a classifier: a query cannot be transposed or stretched on its scale")
    found = load_embedder(name)
    if isinstance(found.front_end, FrontEnd):
        window = found.front_end.n_samples / 16000
    else:
        window = getattr(found.model, "n_frames", _FRAMES) / 100
    facts = {**found.facts(), "window": window}
    return ClassifierEmbedder(_merging(found.model, r, facts), found.front_end, window, hop or window / 2, facts)


def _merging(model: nn.Module, r: Rate | None, facts: dict[str, Any]) -> nn.Module:
    facts["r"] = "unpatched" if r is None else rate_name(r)
    if r is not None:
        apply_patch(model)
        set_r(model, r)
    return model.eval()
