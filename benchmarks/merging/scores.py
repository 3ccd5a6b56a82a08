"""How good it is to merge one token into another: (B, n, n) for the patches, rows leave and columns stay."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.view import View

Score = Callable[[View], Tensor]
_FAR = 1e4
"""Taken off the score of a pair that is not allowed: it is chosen only where nothing else is left."""


def cosine(metric: str = "key") -> Score:
    """Score by the angle between the two tokens."""

    def score(view: View) -> Tensor:
        unit = F.normalize(view.vectors(metric), dim=-1)
        return unit @ unit.mT

    return score


def dot(metric: str = "key") -> Score:
    """Score by the inner product."""

    def score(view: View) -> Tensor:
        x = view.vectors(metric)
        return x @ x.mT

    return score


def euclid(metric: str = "key") -> Score:
    """Score by the distance, nearest first."""
    return lambda view: -_squared(view.vectors(metric))


def ward(metric: str = "key", unit: bool = False, power: float = 1.0) -> Score:
    """Score by what the merge adds to the squared error of all input tokens (Ward, 1963): size-aware by nature.

    Merging sizes s and t at distance d adds s t / (s + t) d^2; `power` weakens the factor.
    """

    def score(view: View) -> Tensor:
        x = view.vectors(metric)
        return -_squared(F.normalize(x, dim=-1) if unit else x) * _harmonic(view.size[:, view.n_prefix :]) ** power

    return score


def felt(metric: str = "value", power: float = 1.0) -> Score:
    """Score like `ward` with the attention that prefix tokens pay in place of sizes: the error they see."""

    def score(view: View) -> Tensor:
        received = view["received"][:, view.n_prefix :]
        return -_squared(view.vectors(metric)) * _harmonic(received + 1e-9) ** power

    return score


def small_first(base: Score, power: float) -> Score:
    """Score similarity / (size of one * size of the other) ** power, as multi-criteria fusion (MCTF) does."""

    def score(view: View) -> Tensor:
        size = view.size[:, view.n_prefix :].log()
        return _log_similarity(base(view)) - power * (size[:, :, None] + size[:, None])

    return score


def unimportant_first(base: Score, power: float, leaving_only: bool = False) -> Score:
    """Score similarity / importance ** power; importance is the attention that prefix tokens pay (MCTF, RAPID)."""

    def score(view: View) -> Tensor:
        weight = (view["received"][:, view.n_prefix :] + 1e-9).log()
        both = weight[:, :, None] if leaving_only else weight[:, :, None] + weight[:, None]
        return _log_similarity(base(view)) - power * both

    return score


def protecting(base: Score, share: float) -> Score:
    """Let the share of tokens that the prefix tokens attend to most stay."""

    def score(view: View) -> Tensor:
        received = view["received"][:, view.n_prefix :]
        kept = received.argsort(dim=1, descending=True)[:, : int(share * received.shape[1])]
        cost = torch.zeros_like(received).scatter(1, kept, _FAR)
        return base(view) - cost[:, :, None]

    return score


def within(base: Score, tokens: int) -> Score:
    """Allow partners at most so many tokens away in the sequence as it is now."""

    def score(view: View) -> Tensor:
        index = torch.arange(view.size.shape[1] - view.n_prefix)
        return base(view) - _FAR * ((index[:, None] - index).abs() > tokens)

    return score


def near(base: Score, bands: float, frames: float) -> Score:
    """Allow partners at most so many bands and so many patches of time away, by the mean place of their parts."""

    def score(view: View) -> Tensor:
        place = view.place[:, view.n_prefix :]
        apart = (place[:, :, None] - place[:, None]).abs()
        far = (apart[..., 0] > bands + 1e-3) | (apart[..., 1] > frames + 1e-3)
        return base(view) - _FAR * far

    return score


def same_band(base: Score) -> Score:
    """Allow neighbours in the sequence, but none across the end of a band."""

    def score(view: View) -> Tensor:
        place = view.place[:, view.n_prefix :]
        across = (place[:, :, None] - place[:, None])[..., 0].abs() > 0.5
        return within(base, 1)(view) - _FAR * across

    return score


def leaning(base: Score, slope: float) -> Score:
    """Take `slope` off the score for each patch of time or band between the two."""

    def score(view: View) -> Tensor:
        place = view.place[:, view.n_prefix :]
        return base(view) - slope * (place[:, :, None] - place[:, None]).abs().sum(-1)

    return score


def _log_similarity(score: Tensor) -> Tensor:
    """Return log((1 + cosine) / 2): a similarity that can be divided by sizes and importance."""
    return ((1 + score) / 2).clamp(min=1e-6).log()


def _harmonic(weight: Tensor) -> Tensor:
    return weight[:, :, None] * weight[:, None] / (weight[:, :, None] + weight[:, None])


def _squared(x: Tensor) -> Tensor:
    """Return the squared distances of all pairs."""
    norms = x.square().sum(-1)
    return (norms[:, :, None] + norms[:, None] - 2 * x @ x.mT).clamp(min=0)
