"""What a rule sees of the tokens in one place of a model, and merging by a matrix of shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def merge(transfer: Tensor, x: Tensor, size: Tensor) -> Tensor:
    """Return the size-weighted means (B, M, ...) of tokens x (B, N, ...); `transfer` (B, M, N) holds their shares."""
    total = transfer @ size[..., None]
    return ((transfer @ (size[..., None] * x.flatten(2))) / total).unflatten(2, x.shape[2:])


class View:
    """Tokens (B, N) in one place, with sizes (B, N) and places (B, N, 2: band, frame).

    `view["hidden"]` (B, N, C), `view["key"]`, `view["value"]` and `view["query"]` (B, N, H, D) are read when asked for;
    `view["received"]` (B, N) is the attention that the prefix tokens pay to each token, summing to 1.
    """

    def __init__(self, size: Tensor, place: Tensor, n_prefix: int, read: Callable[[str], Tensor]) -> None:
        self.size, self.place, self.n_prefix, self.read = size, place, n_prefix, read
        self.known: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.known:
            self.known[name] = self.read(name)
        return self.known[name]

    def merged(self, transfer: Tensor) -> View:
        """Return the tokens after a merge: means of what can be averaged, sums of attention and sizes."""

        def read(name: str) -> Tensor:
            if name == "received":
                return (transfer @ self[name][..., None])[..., 0]
            return merge(transfer, self[name], self.size)

        size = (transfer @ self.size[..., None])[..., 0]
        return View(size, merge(transfer, self.place, self.size), self.n_prefix, read)

    def vectors(self, metric: str) -> Tensor:
        """Return what similarity is measured on for the patches, (B, n, D).

        key, value, query: the mean of the heads; key_heads, value_heads: all heads side by side; hidden; hidden_normed:
        without mean and scale; a + b: unit vectors of both side by side.
        """
        if "+" in metric:
            parts = [F.normalize(self.vectors(part.strip()), dim=-1) for part in metric.split("+")]
            return torch.cat(parts, dim=-1)
        name, _, form = metric.partition("_")
        x = self[name][:, self.n_prefix :]
        if form == "normed":
            return F.layer_norm(x, x.shape[-1:])
        if form == "heads":
            return x.flatten(2)
        return x.mean(2) if x.ndim == 4 else x
