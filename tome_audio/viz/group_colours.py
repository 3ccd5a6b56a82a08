"""Colours for merged groups: groups that touch differ, also for colour-blind readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tome_audio.viz.regions import group_sizes, touching

# Colours of Okabe and Ito, which stay apart for colour-blind readers, without black; then the same, darker, for where
# seven do not suffice.
_PLAIN = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_DARK = ("#7A5400", "#1F5E85", "#00523C", "#8A8100", "#003A5C", "#702F00", "#7A3A5E")
PALETTE = (*_PLAIN, *_DARK)


def colour_groups(groups: np.ndarray, wishes: Mapping[int, int] | None = None) -> dict[int, int]:
    """Return an index into `PALETTE` for each slot with more than one patch on the grid (f_dim, t_dim).

    Each group has a colour of its own while the palette suffices; beyond that, groups that share a side differ as long
    as it suffices for them. The largest choose first: a wish where it is free, otherwise the colour used least so far.
    Groups of one patch get none.
    """
    near, sizes, wishes = touching(groups), group_sizes(groups), wishes or {}
    few = sum(size > 1 for size in sizes.values()) <= len(PALETTE)
    chosen: dict[int, int] = {}
    used: Counter[int] = Counter()
    for slot, size in sizes.items():
        if size == 1:
            break
        taken = Counter(chosen[other] for other in near[slot] if other in chosen)
        choice = wishes.get(slot)
        if choice is None or taken[choice]:
            choice = min(range(len(PALETTE)), key=lambda c: (taken[c], _rank(c, used[c], few), c))
        chosen[slot] = choice
        used[choice] += 1
    return chosen


def _rank(colour: int, used: int, few: bool) -> tuple[int, int]:
    """Return how late to choose a colour: a new one first while all groups can have one, otherwise a plain one."""
    dark = int(colour >= len(_PLAIN))
    return (used, dark) if few else (dark, used)


def colour_layers(layers: Sequence[np.ndarray]) -> list[dict[int, int]]:
    """Colour the groups of successive layers; a group keeps the colour of the one it becomes part of, where it can.

    Args:
        layers: slots on the grid (f_dim, t_dim) after each layer; each group is part of one group of the next layer.
    """
    colours: list[dict[int, int]] = []
    later: np.ndarray | None = None
    for groups in reversed(layers):
        wishes = {}
        if later is not None:
            slots, first = np.unique(groups, return_index=True)
            heirs = later.ravel()[first].tolist()
            wishes = {
                slot: colours[-1][heir] for slot, heir in zip(slots.tolist(), heirs, strict=True) if heir in colours[-1]
            }
        colours.append(colour_groups(groups, wishes))
        later = groups
    return colours[::-1]
