"""From scores to a merge: which pairs are chosen, in how many rounds, and how a token is shared out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from merging.scores import Score
from merging.view import View
from tome_audio.merge import plan_from_pairs, source_matrix

Pairs = tuple[Tensor, Tensor]
"""Patches that leave and the patches they join, (B, r) each; what is joined stays."""
Choose = Callable[[Tensor, int], Pairs]
Step = Callable[[View, int], Tensor]
"""Takes a view of N tokens and r, at most half of the patches, and returns the shares (B, N - r, N)."""


def bipartite(split: str = "alternate") -> Choose:
    """Choose the r best pairs of (A, B) tokens, each token of A with its best of B.

    Args:
        split: alternate (even, odd), swapped (odd, even), random or halves (of the sequence).
    """

    def choose(scores: Tensor, r: int) -> Pairs:
        n = scores.shape[1]
        even, odd = torch.arange(0, n, 2), torch.arange(1, n, 2)
        if split == "swapped":
            a, b = odd, even
        elif split == "halves":
            a, b = torch.arange(n - n // 2), torch.arange(n - n // 2, n)
        elif split == "random":
            order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
            a, b = order[: n - n // 2].sort().values, order[n - n // 2 :].sort().values
        else:
            a, b = even, odd
        return _best_pairs(scores, a.expand(len(scores), -1), b.expand(len(scores), -1), r)

    return choose


def energetic(margin: float, alpha: float = 1.0) -> Choose:
    """Choose as PiToMe does (Tran et al., NeurIPS 2024, arXiv 2405.16148): isolated tokens stay.

    The energy of a token is the mean over all others of their similarity, where one below the margin counts as
    alpha (exp(similarity - margin) - 1). The 2 r tokens of highest energy are split in turn, by energy; each of the
    first kind joins its best of the second.
    """

    def choose(scores: Tensor, r: int) -> Pairs:
        energy = torch.where(scores >= margin, scores, alpha * ((scores - margin).exp() - 1)).mean(-1)
        order = energy.argsort(dim=1, descending=True, stable=True)[:, : 2 * r]
        return _best_pairs(scores, order[:, ::2], order[:, 1::2], r)

    return choose


def greedy() -> Choose:
    """Choose the best pair of any two tokens, then the best of those left, and so on: no token is in two pairs."""

    def choose(scores: Tensor, r: int) -> Pairs:
        n = scores.shape[1]
        left = scores.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf).clone()
        rows = torch.arange(len(scores))
        found = []
        for _ in range(r):
            best = left.flatten(1).argmax(1)
            one, other = best // n, best % n
            for gone in (one, other):
                left[rows, gone] = -torch.inf
                left[rows, :, gone] = -torch.inf
            found.append((one, other))
        return torch.stack([a for a, _ in found], 1), torch.stack([b for _, b in found], 1)

    return choose


def evenly(view: View, r: int) -> Tensor:
    """Merge r even patches, spread evenly, into the next one each, whatever they say: plain average pooling."""
    n = view.size.shape[1] - view.n_prefix
    source = 2 * (torch.arange(r) * (n // 2) // r)
    return _shares(view, source.expand(len(view.size), -1), (source + 1).expand(len(view.size), -1))


def pairs(score: Score, choose: Choose | None = None, rounds: int = 1) -> Step:
    """Merge by chosen pairs, in one round or with r split over several, each of which sees the merged tokens."""
    pick = choose or bipartite()

    def step(view: View, r: int) -> Tensor:
        whole = None
        for part in range(rounds):
            now = r * (part + 1) // rounds - r * part // rounds
            if now == 0:
                continue
            source, target = pick(score(view), now)
            shares = _shares(view, source, target)
            whole = shares if whole is None else shares @ whole
            view = view.merged(shares)
        assert whole is not None
        return whole

    return step


def shared(score: Score, partners: int, temperature: float, among_all: bool = False) -> Step:
    """Share each token that leaves among its best partners by a softmax of scores (Token Transforming's soft form).

    Args:
        score: of pairs.
        partners: how many tokens of B take a share.
        temperature: of the softmax.
        among_all: tokens of A that stay take shares too.
    """

    def step(view: View, r: int) -> Tensor:
        scores = score(view)
        source, target = bipartite()(scores, r)
        hard = _shares(view, source, target)
        n = scores.shape[1]
        stays = torch.ones(scores.shape[:2], dtype=torch.bool).scatter(1, source, False)
        allowed = stays if among_all else stays & (torch.arange(n) % 2 == 1)
        rows = scores.gather(1, source[..., None].expand(-1, -1, n))
        rows = rows.masked_fill(~allowed[:, None], -torch.inf)
        kept = rows.topk(min(partners, n // 2), dim=-1)
        weight = torch.zeros_like(rows).scatter(2, kept.indices, (kept.values / temperature).softmax(-1))
        # Columns of `hard` for what leaves are replaced by its shares, in the order of the tokens that stay.
        slots = stays.long().argsort(dim=1, descending=True, stable=True)[:, : n - r]
        columns = weight.gather(2, slots[:, None].expand(-1, r, -1)).mT
        p = view.n_prefix
        hard = hard.clone()
        hard[:, p:].scatter_(2, (source + p)[:, None].expand(-1, n - r, -1), columns)
        return hard

    return step


def repeated(step: Step) -> Step:
    """Let a step merge any r: as many halves as it takes."""

    def run(view: View, r: int) -> Tensor:
        whole = None
        while r > 0:
            now = min(r, (view.size.shape[1] - view.n_prefix) // 2)
            shares = step(view, now)
            whole = shares if whole is None else shares @ whole
            view, r = view.merged(shares), r - now
        assert whole is not None
        return whole

    return run


def _best_pairs(scores: Tensor, a: Tensor, b: Tensor, r: int) -> Pairs:
    n_b = b.shape[1]
    rows = scores.gather(1, a[:, :, None].expand(-1, -1, scores.shape[2]))
    best, partner = rows.gather(2, b[:, None].expand(-1, a.shape[1], n_b)).max(-1)
    chosen = best.argsort(dim=1, descending=True, stable=True)[:, :r]
    return a.gather(1, chosen), b.gather(1, partner.gather(1, chosen))


def _shares(view: View, source: Tensor, target: Tensor) -> Tensor:
    p = view.n_prefix
    return source_matrix(plan_from_pairs(source + p, target + p, view.size.shape[1])).to(view.size.dtype)
