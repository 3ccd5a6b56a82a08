"""What retrieval asks of a model: from audio to spectrograms, from windows of them to embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor


class FrameMaker(Protocol):
    """Makes spectrograms of audio that is read in stretches.

    `frames` must give the same rows for every stretch of a file that begins at a multiple of `frame_hop`, but for rows
    within `margin` of the ends of the stretch.
    """

    @property
    def sample_rate(self) -> int:
        """Of the waveforms that `frames` takes, in Hz."""

    @property
    def window(self) -> float:
        """Seconds of a window."""

    @property
    def frame_hop(self) -> int:
        """Samples from one frame to the next."""

    @property
    def margin(self) -> float:
        """Seconds around a frame's time that its values depend on, to either side."""

    def frames(self, waveform: Tensor) -> Tensor:
        """Return the spectrogram (T, F) of a stretch of audio (samples,); frame i is at sample i * `frame_hop`."""


class Embedder(FrameMaker, Protocol):
    """A model that embeds windows of songs and originals, with its front end.

    What looks at a whole window, such as a normalisation, belongs into `embed`, not into `frames`.
    """

    @property
    def hop(self) -> float:
        """Seconds from one window to the next."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What embeddings depend on: checksum of the weights, r, front end. Values that JSON can hold."""

    @property
    def variant_facts(self) -> Sequence[tuple[float, float]]:
        """For each of V variants semitones and tempo ratio.

        Where a variant matches, the sample sounds that much higher in the song and is played that much faster.
        """

    def embed(self, windows: Tensor) -> Tensor:
        """Return embeddings (B, D) of unit length for windows (B, T, F)."""

    def variants(self, windows: Tensor) -> Tensor:
        """Return windows (B, T, F) of a song as they may have sounded in the original, (B, V, T', F')."""


def window_frames(maker: FrameMaker) -> int:
    """Return how many frames a window has."""
    return round(maker.window * maker.sample_rate / maker.frame_hop)
