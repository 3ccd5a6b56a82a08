"""Embeddings of all windows of an audio file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tome_audio.data.clips import DataError
from tome_audio.retrieval.embedder import Embedder
from tome_audio.retrieval.windows import OnSeconds, Windows, stream_windows

_Stream = Callable[[OnSeconds], Iterator[Windows]]


class EmbeddedWindows(NamedTuple):
    """All windows of a file.

    Attributes:
        starts: Seconds at which they begin (Q,), float64.
        values: Embeddings (Q, D), or (Q, V, D) with variants.
        seconds: Length of the file.
    """

    starts: Tensor
    values: Tensor
    seconds: float


def embed_reference(
    path: str | os.PathLike[str],
    embedder: Embedder,
    *,
    hop: float | None = None,
    batch_size: int = 32,
    on_seconds: OnSeconds | None = None,
) -> EmbeddedWindows:
    """Embed the windows of an original: values (Q, D).

    Args:
        path: Audio file of any rate and length.
        embedder: The model.
        hop: Seconds from one window to the next; None takes the embedder's.
        batch_size: Windows per forward pass.
        on_seconds: Called with the seconds read so far.

    Raises:
        AudioError: The file cannot be used; see `stream_windows`.
        DataError: An embedding is NaN or infinite.
    """
    stream: _Stream = lambda on_read: stream_windows(  # noqa: E731
        path, embedder, hop=hop, batch_size=batch_size, on_seconds=on_read
    )
    return _embedded(path, stream, embedder.embed, on_seconds)


def embed_song(
    path: str | os.PathLike[str],
    embedder: Embedder,
    *,
    hop: float | None = None,
    batch_size: int = 32,
    on_seconds: OnSeconds | None = None,
) -> EmbeddedWindows:
    """Embed the windows of a song in all variants: values (Q, V, D).

    Args:
        path: Audio file of any rate and length.
        embedder: The model.
        hop: Seconds from one window to the next; None takes the embedder's.
        batch_size: Variants per forward pass; those of one window stay together.
        on_seconds: Called with the seconds read so far.

    Raises:
        AudioError: The file cannot be used; see `stream_windows`.
        DataError: An embedding is NaN or infinite.
    """
    n_variants = len(embedder.variant_facts)

    def embed(windows: Tensor) -> Tensor:
        varied = embedder.variants(windows)
        return embedder.embed(varied.flatten(0, 1)).unflatten(0, (len(windows), n_variants))

    together = max(1, batch_size // n_variants)
    stream: _Stream = lambda on_read: stream_windows(  # noqa: E731
        path, embedder, hop=hop, batch_size=together, on_seconds=on_read
    )
    return _embedded(path, stream, embed, on_seconds)


def _embedded(
    path: str | os.PathLike[str], stream: _Stream, embed: Callable[[Tensor], Tensor], on_seconds: OnSeconds | None
) -> EmbeddedWindows:
    starts, parts = [], []
    seconds = 0.0

    def on_read(so_far: float) -> None:
        nonlocal seconds
        seconds = so_far
        if on_seconds is not None:
            on_seconds(so_far)

    for batch in stream(on_read):
        with torch.inference_mode():
            values = embed(batch.values).float().cpu()
        if not bool(values.isfinite().all()):
            raise DataError(f"an embedding of {os.fspath(path)} is not finite: is the model trained?")
        starts.append(batch.starts)
        parts.append(values)
    return EmbeddedWindows(torch.cat(starts), torch.cat(parts).clone(), seconds)
