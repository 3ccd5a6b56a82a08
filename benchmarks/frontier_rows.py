"""The rows of a frontier table: which schedules stand in it, before anything is measured."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rivals import tokens_and_macs
from rivals.copies import own_copy
from rivals.dropping import random_drop, topk_class
from torch import nn

from tome_audio.cli.rates import rate_name
from tome_audio.merge import SHAPES, ComputeTarget, Rate, Schedule
from tome_audio.patch import apply_patch, describe
from tome_audio.patch.model import set_r
from tome_audio.patch.registry import find_encoders

FITTED = "fitted"
_RANDOM_SEEDS = (0, 1, 2)
_LAYERS, _SHARES = 4, 500  # shares in thousandths: one matching takes half of the tokens at most
_AS_PATCHED = {"metric": "key", "matching": "bipartite"}  # of apply_patch, by default


class Row(NamedTuple):
    """A schedule of a family for a target; `seed` is None where there is no chance in it."""

    family: str
    seed: int | None
    target: float
    r: str


class Rival(NamedTuple):
    """A family that does not merge by similarity: its name in `rivals`, and how a copy of a model is made for r."""

    method: str
    build: Callable[[nn.Module, Rate, int], nn.Module]
    seeds: Sequence[int | None]


def _random_merging(model: nn.Module, r: Rate, seed: int) -> nn.Module:
    return apply_patch(own_copy(model), r, matching="random", seed=seed)


RIVALS = {
    "random merging": Rival("merged-random", _random_merging, _RANDOM_SEEDS),
    "pruning": Rival("topk-class", lambda model, r, seed: topk_class(model, r), (None,)),
    "random dropping": Rival("random-drop", random_drop, _RANDOM_SEEDS),
}


def build(model: nn.Module, family: str, rate: Rate, seed: int | None) -> nn.Module:
    """Return a copy of the unpatched model that does what a row says."""
    if family in RIVALS:
        return RIVALS[family].build(model, rate, seed or 0)
    return apply_patch(own_copy(model), rate)


def macs_cut(model: nn.Module, family: str, rate: Rate, n_tokens: int) -> float:
    """Return how many times fewer MACs the blocks take when N = `n_tokens` enter."""
    method = RIVALS[family].method if family in RIVALS else "merged"
    whole, own = (tokens_and_macs(name, model, rate, n_tokens)[1] for name in ("unpatched", method))
    return whole / own


def data_free_rows(model: nn.Module, n_tokens: int, targets: Iterable[float]) -> Iterator[Row]:
    """Give the rows of all families that need no data; a family ends where a target is out of its reach.

    Args:
        model: the unpatched model.
        n_tokens: N entering block 0, prefix included.
        targets: how many times fewer MACs.
    """
    targets, merged = sorted(targets), apply_patch(own_copy(model))
    for shape in SHAPES:
        for target in targets:
            rate = ComputeTarget(target, shape)
            set_r(merged, rate)
            try:
                describe(merged, n_tokens)
            except ValueError:
                break
            yield Row(shape, None, target, rate_name(rate))
    for family, rival in RIVALS.items():
        for target in targets:
            blocks = shrinking(model, family, n_tokens, target)
            if blocks is None:
                break
            yield from (Row(family, seed, target, rate_name(blocks)) for seed in rival.seeds)


def shrinking(model: nn.Module, family: str, n_tokens: int, target: float) -> list[int] | None:
    """Return the mildest front-loaded list for the blocks that reaches a target, None where none does.

    The first four blocks each take away the same share of the patch tokens, half at most; where half is not enough,
    more blocks do.
    """
    encoder, adapter = next(find_encoders(model))
    depth, n_patches = len(getattr(encoder, adapter.blocks)), n_tokens - adapter.n_prefix(encoder)

    def reaches(layers: int, share: int) -> bool:
        return macs_cut(model, family, _same_share(n_patches, layers, share), n_tokens) >= target

    for layers in range(min(_LAYERS, depth), depth + 1):
        if reaches(layers, _SHARES):
            share = bisect_left(range(_SHARES), True, lo=1, key=lambda share: reaches(layers, share))
            return _same_share(n_patches, layers, share)
    return None


def _same_share(n_patches: int, layers: int, share: int) -> list[int]:
    taken = []
    for _ in range(layers):
        taken.append(min(n_patches // 2, round(share * n_patches / 1000)))
        n_patches -= taken[-1]
    return taken


def fitted_rows(folders: Iterable[Path]) -> tuple[list[Row], dict[str, Any]]:
    """Return a row for each schedule in the folders, as `tome-audio fit` writes them, and how they were fitted.

    Raises:
        ValueError: if there is no schedule, a file says no seed or target, or two are for the same.
    """
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        schedule, fitted = Schedule.load(path), json.loads(path.read_text())["fitted"]
        if not {"seed", "target"} <= fitted.keys():
            raise ValueError(f"{path} does not say for which seed and target it was fitted: fit it with tome-audio fit")
        for name, own in _AS_PATCHED.items():
            if fitted.get(name, own) != own:
                raise ValueError(f"{path} was fitted with {name} {fitted[name]}, but rows are scored with {own}")
        rows.append(Row(FITTED, fitted["seed"], float(fitted["target"]), rate_name(schedule)))
        known = [row for row in rows[:-1] if row[:3] == rows[-1][:3]]
        if known:
            raise ValueError(f"{path} is a second schedule for seed {fitted['seed']}, {fitted['target']:g}x: keep one")
        same = ("model", "unit", "metric", "matching", "budget", "n_clips", "versions")
        facts |= {name: fitted[name] for name in same if name in fitted}
    if not rows:
        raise ValueError("no schedules (*.json) in the folders given: run tome-audio fit with --out FOLDER")
    return sorted(rows, key=lambda row: (row.seed, row.target)), facts
