"""Contrastive learning of which songs share material, as a task for the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor, nn

from tome_audio.audio.spectrogram_flips import mixed
from tome_audio.audio.vqt import peak_normalised
from tome_audio.losses import info_nce

Batch = Mapping[str, Any]


class MixRetrieval:
    """Find the two songs that a mix is made of among all of the batch, and the mixes that a song is in.

    Mix i holds the flipped sample of song i and the backing of the song before it, so each mix has two positives, and
    so has each reference (Riou et al., 2025, arXiv 2510.11507). With several processes the mixes and references of all
    are each other's negatives.

    Args:
        temperature: What cosines are divided by.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of both directions' losses; batches hold what `SongMixes.draw` gives."""
        mix = peak_normalised(mixed(batch["sample"], batch["backing"].roll(1, 0), batch["level"]))
        mixes, references = model(torch.cat([mix, batch["reference"]])).float().chunk(2)
        n, device = len(mixes), mixes.device
        sizes = _sizes(n, device)
        first = sum(sizes[: _rank()])
        own = torch.arange(n, device=device)
        positives = torch.zeros(n, sum(sizes), dtype=torch.bool, device=device)
        back = positives.clone()
        for shift in (0, 1):  # mix i has songs i and i - 1, so song i is in mixes i and i + 1
            positives[own, first + (own - shift) % n] = True
            back[own, first + (own + shift) % n] = True
        there = info_nce(mixes, _gathered(references, sizes), positives, temperature=self.temperature)
        back_again = info_nce(references, _gathered(mixes, sizes), back, temperature=self.temperature)
        return (there + back_again) / 2, {"mix_to_song": there.detach(), "song_to_mix": back_again.detach()}

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return embeddings of mixes and of references, (B, D) each."""
        mixes, references = model(torch.cat([batch["mix"], batch["reference"]])).float().chunk(2)
        return {"mix": mixes, "reference": references}

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how often a mix finds the sampled song first among all, and the mean of 1 / rank."""
        similar = outputs["mix"] @ outputs["reference"].mT
        own = similar.diagonal()[:, None]
        rank = 1 + (similar > own).sum(1) + ((similar == own).sum(1) - 1)  # ties count against it
        return {"hit_rate": float((rank == 1).float().mean()), "mrr": float((1.0 / rank).mean())}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the mean reciprocal rank."""
        return metrics["mrr"]

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values."""
        return {"kind": "MixRetrieval", "temperature": self.temperature}


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _sizes(n: int, device: torch.device) -> list[int]:
    # The last step of an epoch may give one process a clip more than another.
    if not torch.distributed.is_initialized():
        return [n]
    own = torch.tensor([n], device=device)
    found = [torch.zeros_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, own)
    return [int(size) for size in found]


def _gathered(values: Tensor, sizes: list[int]) -> Tensor:
    """Return the values (B, D) of all processes in their order, with gradients to all of them."""
    if len(sizes) == 1:
        return values
    padded = torch.cat([values, values.new_zeros(max(sizes) - len(values), values.shape[1])])
    found = torch.distributed.nn.functional.all_gather(padded)
    return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])
