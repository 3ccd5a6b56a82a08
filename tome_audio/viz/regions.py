"""Which patch went where, as shapes on the patch grid: groups, their outlines, and which of them touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_Side = tuple[int, int, int, int]  # from corner (row, column) one step in (row, column)

# Per side of a cell: where the cell behind it lies, the corner it starts from, and its heading. Rows go up and columns
# to the right; the cell is on the left of each side.
_SIDES = (
    ((-1, 0), (0, 0), (0, 1)),
    ((0, 1), (0, 1), (1, 0)),
    ((1, 0), (1, 1), (0, -1)),
    ((0, -1), (1, 0), (-1, 0)),
)


class Region(NamedTuple):
    """One token on the patch grid.

    `slot` is its place among the tokens after merging and `size` the patches it stands for. `rings` are its outlines,
    (K, 2) corners as (row, column) of the grid without repeating the first: around each part, and around each hole in
    the other direction.
    """

    slot: int
    size: int
    rings: tuple[np.ndarray, ...]


def groups_on_grid(assign: np.ndarray, shape: tuple[int, int], n_prefix: int) -> np.ndarray:
    """Return the slot of each patch on the grid, (f_dim, t_dim).

    Args:
        assign: slot of each input token (N,), prefix tokens first, patches frequency-major.
        shape: patches along (frequency, time).
        n_prefix: P, the tokens at the front that are not patches.

    Raises:
        ValueError: if `assign` does not hold P plus one entry per patch.
    """
    if assign.shape != (n_prefix + shape[0] * shape[1],):
        raise ValueError(f"assign must have {n_prefix + shape[0] * shape[1]} entries, got shape {tuple(assign.shape)}")
    return assign[n_prefix:].reshape(shape)


def group_sizes(groups: np.ndarray) -> dict[int, int]:
    """Return how many patches each slot stands for, the largest first and equal ones in order."""
    slots, counts = np.unique(groups, return_counts=True)
    pairs = zip(slots.tolist(), counts.tolist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def find_regions(groups: np.ndarray) -> list[Region]:
    """Return a region per slot of the grid (f_dim, t_dim), the largest first."""
    cells: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for (row, column), slot in np.ndenumerate(groups):
        cells[int(slot)].add((row, column))
    return [Region(slot, size, tuple(_rings(cells[slot]))) for slot, size in group_sizes(groups).items()]


def touching(groups: np.ndarray) -> dict[int, set[int]]:
    """Return for each slot of the grid (f_dim, t_dim) the slots that it shares a side of a patch with."""
    pairs = [(groups[:, :-1], groups[:, 1:]), (groups[:-1], groups[1:])]
    near: dict[int, set[int]] = {int(slot): set() for slot in np.unique(groups)}
    for one, other in pairs:
        for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
            if a != b:
                near[a].add(b)
                near[b].add(a)
    return near


def patches_per_token(groups: np.ndarray) -> np.ndarray:
    """Return for each column of the grid (f_dim, t_dim) how many patches a token there stands for on average, (t_dim,).

    A patch of a token of size s counts as 1 / s tokens, so the tokens of all columns add up to all tokens.
    """
    sizes = group_sizes(groups)
    share = np.vectorize(lambda slot: 1.0 / sizes[slot], otypes=[float])(groups)
    mean: np.ndarray = groups.shape[0] / share.sum(axis=0)
    return mean


def parts(inside: np.ndarray) -> list[np.ndarray]:
    """Return the connected parts of the True cells of a grid (f_dim, t_dim) as grids, the largest first.

    Cells are connected through their sides.
    """
    left = {(int(row), int(column)) for row, column in np.argwhere(inside)}
    found = []
    while left:
        part, edge = np.zeros_like(inside, dtype=bool), [min(left)]
        left.remove(edge[0])
        while edge:
            row, column = edge.pop()
            part[row, column] = True
            near = {(row + away[0], column + away[1]) for away, _, _ in _SIDES} & left
            left -= near
            edge.extend(near)
        found.append(part)
    return sorted(found, key=lambda part: -int(part.sum()))


def longest_run(inside: np.ndarray) -> tuple[int, int, int]:
    """Return row, first column and length of the longest run of True along time: where text has most room.

    The row nearest to the middle of the cells counts among equals.

    Raises:
        ValueError: if no cell of the grid (f_dim, t_dim) is True.
    """
    if not inside.any():
        raise ValueError("no cell of the grid is True, so there is no run")
    middle = np.argwhere(inside)[:, 0].mean()
    runs = []
    for row, cells in enumerate(inside):
        steps = np.flatnonzero(np.diff(np.concatenate(([0], cells.astype(int), [0])))).tolist()
        runs += [(row, start, end - start) for start, end in zip(steps[::2], steps[1::2], strict=True)]
    return max(runs, key=lambda run: (run[2], -abs(run[0] - middle)))


def _rings(cells: set[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Walk along the outlines of a set of cells, with the cells on the left."""
    sides = {
        (row + start[0], column + start[1], *heading)
        for row, column in cells
        for away, start, heading in _SIDES
        if (row + away[0], column + away[1]) not in cells
    }
    left = dict.fromkeys(sorted(sides))  # in order: the same groups give the same rings
    while left:
        first = side = next(iter(left))
        corners = []
        while True:
            del left[side]
            following = _next_side(side, sides)
            if following[2:] != side[2:]:
                corners.append(following[:2])
            side = following
            if side == first:
                break
        yield np.array(corners)


def _next_side(side: _Side, sides: set[_Side]) -> _Side:
    """Return the side that goes on from the end of this one; left turns first, so that corners alone do not connect."""
    row, column, up, right = side
    row, column = row + up, column + right
    turns = ((row, column, right, -up), (row, column, up, right), (row, column, -right, up))
    return next(turn for turn in turns if turn in sides)
