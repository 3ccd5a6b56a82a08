"""In which order, and how often, clips are seen: the same for the same seed and epoch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler


def balanced_weights(labels: Sequence[Sequence[str]]) -> Tensor:
    """How likely each clip is drawn, (N,) float64: the sum over its labels of 1000 / (clips with the label + 0.01).

    As AST computes them for full AudioSet (Gong et al., 2021). The weights need not sum to 1.

    Args:
        labels: Of every clip; `[entry.labels for entry in manifest.entries]`.

    Raises:
        ValueError: A clip without labels: it could never be drawn.
    """
    for number, own in enumerate(labels):
        if not own:
            raise ValueError(f"clip {number} has no label and would never be drawn: leave it out")
    count = Counter(label for own in labels for label in own)
    return torch.tensor([sum(1000 / (count[label] + 0.01) for label in own) for own in labels], dtype=torch.float64)


class EpochSampler(Sampler[int]):
    """Clip numbers of one epoch, shuffled, or drawn with replacement by weight; they depend on (seed, epoch) alone.

    Call `set_epoch` before every epoch; a resumed run that sets the same epoch gets the same order.

    Args:
        n_clips: Clips in the data set, and drawn per epoch.
        seed: Of all epochs.
        weights: (N,), not negative, not all 0; None takes every clip once per epoch.

    Raises:
        ValueError: No clips, or weights that do not fit.
    """

    def __init__(self, n_clips: int, seed: int = 0, weights: Tensor | None = None) -> None:
        if n_clips < 1:
            raise ValueError(f"n_clips must be at least 1, got {n_clips}")
        if weights is not None:
            if weights.shape != (n_clips,):
                raise ValueError(f"{n_clips} clips need weights ({n_clips},), got shape {tuple(weights.shape)}")
            if not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
                raise ValueError("weights must be finite, not negative and not all 0")
        self.n_clips = n_clips
        self.seed = seed
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration gives."""
        self.epoch = epoch

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values; of the weights a checksum."""
        drawn = None if self.weights is None else self.weights.double().cpu().contiguous().numpy().tobytes()
        weights = None if drawn is None else hashlib.sha256(drawn).hexdigest()[:16]
        return {"kind": "EpochSampler", "seed": self.seed, "weights": weights}

    def __len__(self) -> int:
        return self.n_clips

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            chosen = torch.randperm(self.n_clips, generator=generator)
        else:
            chosen = torch.multinomial(self.weights, self.n_clips, replacement=True, generator=generator)
        return iter(chosen.tolist())
