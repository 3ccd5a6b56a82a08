"""Few-shot classification as a task for the trainer; a batch is one or more episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tome_audio.losses import Distance, prototypical_logits, relation_loss
from tome_audio.metrics.few_shot import mean_and_interval
from tome_audio.tasks.facts import named_facts

Batch = Mapping[str, Any]
Contrastive = Callable[..., Tensor]
"""Queries (E, N, q, P), prototypes (E, N, P) and the keyword `generator` to a scalar."""


class FewShot:
    """Prototypical networks (Snell et al., 2017, arXiv 1703.05175), with a contrastive loss beside theirs if wanted.

    Batches hold `support` (E, N, k, V, T, F) and `query` (E, N, q, V', T, F); the model answers as `FewShotNetwork`
    does. Every view of a query is a query of its own, where views are not fused.

    Args:
        distance: Between queries and prototypes: "squared", "euclidean" or "cosine".
        temperature: What distances are divided by.
        contrastive: A second loss, such as `contrastive_prototypical_loss` with its options; None has none.
        weight: What the second loss is multiplied with.
        relation: Learn from and answer with the model's relation scores instead of a distance.
    """

    def __init__(
        self,
        *,
        distance: Distance = "squared",
        temperature: float = 1.0,
        contrastive: Contrastive | None = None,
        weight: float = 1.0,
        relation: bool = False,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.distance, self.temperature = distance, temperature
        self.contrastive, self.weight, self.relation = contrastive, weight, relation

    def loss(
        self, model: nn.Module, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss over queries and episodes, and its parts.

        Raises:
            ValueError: The contrastive loss needs a projection that the model lacks.
        """
        found = model(batch["support"], batch["query"])
        few_shot = self._few_shot(found)
        logs = {"few_shot": few_shot.detach()}
        if self.contrastive is None:
            return few_shot, logs
        queries, anchors = found.get("projected", found["query"]), found.get("anchors", found["prototypes"])
        contrastive = self.contrastive(queries.float(), anchors.float(), generator=generator)
        logs["contrastive"] = contrastive.detach()
        return few_shot + self.weight * contrastive, logs

    def outputs(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return for each episode the part of its queries that is right (E,), and its loss (E,)."""
        found = model(batch["support"], batch["query"])
        scores = self._scores(found)
        truth = _truth(scores)
        right = (scores.argmax(-1) == truth).float().flatten(1).mean(1)
        loss = F.cross_entropy(scores.flatten(0, 2), truth.flatten(), reduction="none")
        return {"accuracy": right, "loss": loss.unflatten(0, truth.shape).flatten(1).mean(1)}

    def metrics(self, outputs: Mapping[str, Tensor]) -> dict[str, float]:
        """Return accuracy over episodes with the half width of its 95 % interval, and the loss."""
        found = mean_and_interval(outputs["accuracy"])
        return {"accuracy": found.mean, "interval": found.half_width, "loss": float(outputs["loss"].mean())}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the accuracy."""
        return metrics["accuracy"]

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values."""
        own = {"distance": self.distance, "temperature": self.temperature, "weight": self.weight}
        return {"kind": "FewShot", **own, "relation": self.relation, **named_facts("contrastive", self.contrastive)}

    def _few_shot(self, found: Mapping[str, Tensor]) -> Tensor:
        if self.relation:
            return relation_loss(found["scores"].float())
        scores = self._scores(found)
        return F.cross_entropy(scores.flatten(0, 2), _truth(scores).flatten())

    def _scores(self, found: Mapping[str, Tensor]) -> Tensor:
        # (E, N, q, N) in float32.
        if self.relation:
            return found["scores"].float()
        query = found["query"].float()
        logits = prototypical_logits(
            query.flatten(1, 2), found["prototypes"].float(), self.distance, temperature=self.temperature
        )
        return logits.unflatten(1, query.shape[1:3])


def _truth(scores: Tensor) -> Tensor:
    # Queries stand in the rows of their classes.
    own = torch.arange(scores.shape[1], device=scores.device)
    return own[None, :, None].expand(scores.shape[:3])
