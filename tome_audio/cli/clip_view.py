"""A clip as a model sees it: its spectrogram, and where the model's tokens lie on it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tome_audio.audio import kaldi_fbank
from tome_audio.audio.fbank import window_and_shift
from tome_audio.cli.loading import LoadedModel
from tome_audio.models import AST, KWT
from tome_audio.viz.grid import TokenGrid
from tome_audio.viz.overlay import ClipView

SAMPLE_RATE = 16000
_KWT_MELS = 80


def clip_view(loaded: LoadedModel, waveform: Tensor) -> ClipView:
    """Return the log-mel picture of a clip (T samples at 16 kHz), the patch grid on it, and where its padding begins.

    A Keyword Transformer sees cepstral coefficients, which have no frequency axis: its tokens, one per frame, are
    columns over a mel spectrogram with the same frames.

    Raises:
        ValueError: if the model does not take audio, or nothing is known about its tokens.
    """
    if loaded.prepare is None:
        raise ValueError(
            f"{loaded.name} does not take audio, so there is no spectrogram to draw on: give a Keyword Transformer "
            "(.npz), an AST (.safetensors, .pth) or a Hugging Face AST"
        )
    if isinstance(loaded.model, KWT):
        return _kwt_view(loaded.model, waveform)
    grid = _ast_grid(loaded)
    window, shift = window_and_shift(SAMPLE_RATE)
    n_valid = min(grid.n_frames, 1 + max(0, len(waveform) - window) // shift)
    return ClipView(loaded.prepare([waveform])[0], grid, n_valid)


def _ast_grid(loaded: LoadedModel) -> TokenGrid:
    """Return the grid of our AST or of Hugging Face's, whose patches are frequency-major behind two prefix tokens."""
    patch, stride = _patch_and_stride(loaded)
    n_frames, n_mels = loaded.input_shape
    return TokenGrid(n_mels=n_mels, n_frames=n_frames, patch=patch, stride=stride, n_prefix=2)


def _patch_and_stride(loaded: LoadedModel) -> tuple[tuple[int, int], tuple[int, int]]:
    model = loaded.model
    if isinstance(model, AST):
        embed: Any = model.v.patch_embed
        return embed.patch_size, embed.stride
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) == "audio-spectrogram-transformer":
        return (config.patch_size, config.patch_size), (config.frequency_stride, config.time_stride)
    raise ValueError(f"{loaded.name} is a {type(model).__name__}: where its tokens lie on a spectrogram is not known")


def _kwt_view(model: KWT, waveform: Tensor) -> ClipView:
    frontend = model.frontend
    grid = TokenGrid(
        n_mels=_KWT_MELS, n_frames=model.n_frames, patch=(_KWT_MELS, 1), stride=(_KWT_MELS, 1),
        n_prefix=model.num_prefix_tokens, hop_seconds=frontend.hop / SAMPLE_RATE,
        window_seconds=frontend.frame_length / SAMPLE_RATE,
    )  # fmt: skip
    padded = F.pad(waveform, (0, frontend.n_samples - len(waveform)))  # a negative amount cuts
    milliseconds = 1000 / SAMPLE_RATE
    with torch.no_grad():
        image = kaldi_fbank(
            padded, n_mels=_KWT_MELS, frame_length_ms=frontend.frame_length * milliseconds,
            frame_shift_ms=frontend.hop * milliseconds, preemphasis=0.0,
        )  # fmt: skip
    # Frames that begin behind the last sample see nothing but padding.
    return ClipView(image, grid, min(model.n_frames, -(-len(waveform) // frontend.hop)))
