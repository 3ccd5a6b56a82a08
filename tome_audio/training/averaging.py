"""Means of weights over steps and over epochs, and a model that holds them for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


class MovingAverage:
    """Exponential moving average of a model's weights over steps: average <- d average + (1 - d) weights.

    After t updates d is min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten. What is no
    floating-point number, such as a counter, is that of the last update.

    Raises:
        ValueError: The decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a moving average must be in [0, 1), got {decay}")
        self.decay, self.n_updates = decay, 0
        self.weights: Weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights after a step."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
        self.n_updates += 1

    def load(self, weights: Mapping[str, Tensor], n_updates: int) -> None:
        """Go on from saved weights."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
        self.n_updates = n_updates


class EpochMean:
    """Plain mean of the weights at the ends of epochs, as AST averages its checkpoints; sums are kept on the CPU.

    What is no floating-point number is that of the last epoch.
    """

    def __init__(self) -> None:
        self.sums: Weights = {}
        self.n_epochs = 0

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights of one more epoch."""
        for name, value in weights.items():
            value = value.detach().to("cpu", copy=True)
            if self.n_epochs and value.is_floating_point():
                self.sums[name] += value
            else:
                self.sums[name] = value
        self.n_epochs += 1

    def mean(self) -> Weights:
        """Return the mean of the epochs taken in.

        Raises:
            ValueError: There are none.
        """
        if not self.n_epochs:
            raise ValueError("no epoch has been averaged yet")
        return {name: v / self.n_epochs if v.is_floating_point() else v.clone() for name, v in self.sums.items()}


@contextmanager
def holding(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the model hold other weights while the context is open; its own come back bit for bit."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    try:
        model.load_state_dict(weights)
        yield
    finally:
        model.load_state_dict(own)
