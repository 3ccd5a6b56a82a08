"""Where in a song which originals are heard, and where in the originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_MATCH = "#D55E00"
_HEIGHT = 0.7


class Lane(NamedTuple):
    """One original.

    Attributes:
        name: Its id.
        note: Below its name, such as score and transposition.
        profile: Similarity of each window of the song to it (Q,).
        song: Stretches of the song where it is heard, start and end in seconds.
        original: The stretches of the original that are heard there.
        seconds: Length of the original.
    """

    name: str
    note: str
    profile: Sequence[float]
    song: Sequence[tuple[float, float]]
    original: Sequence[tuple[float, float]]
    seconds: float


def plot_matches(
    lanes: Sequence[Lane], starts: Sequence[float], window: float, seconds: float, *, title: str
) -> Figure:
    """Draw one lane per original: its similarity over the song with the stretches that match, and their places in it.

    Args:
        lanes: Best original first.
        starts: Seconds at which the windows of the song begin (Q,).
        window: Seconds of a window.
        seconds: Length of the song.
        title: Above the figure.

    Raises:
        ValueError: There is no lane, or a profile does not have one value per window.
    """
    if not lanes:
        raise ValueError("there is no original to draw")
    if any(len(lane.profile) != len(starts) for lane in lanes):
        raise ValueError(f"every profile must have one value for each of {len(starts)} windows")
    figure = Figure(figsize=(10, 1.7 + 0.55 * len(lanes)), layout="constrained")
    song, original = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle(title, fontsize=11)
    places = range(len(lanes))
    cells = _draw_profiles(song, lanes, starts, window)
    for place, lane in zip(places, lanes, strict=True):
        _outline(song, lane.song, place)
        original.barh(place, lane.seconds, _HEIGHT, color="0.88")
        for start, end in lane.original:
            original.barh(place, end - start, _HEIGHT, start, color=_MATCH, alpha=0.6, edgecolor=_MATCH)
    song.set_yticks(list(places), [f"{lane.name}\n{lane.note}" for lane in lanes], fontsize=8)
    song.set_ylim(len(lanes) - 0.4, -0.6)
    song.set_xlim(0, seconds)
    original.set_xlim(0, max(lane.seconds for lane in lanes))
    song.set_xlabel("time in the song (s)")
    original.set_xlabel("time in the original (s)")
    original.tick_params(left=False)
    for axes in (song, original):
        axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(cells, ax=original, label="cosine similarity", shrink=0.9)
    return figure


def _draw_profiles(axes: Axes, lanes: Sequence[Lane], starts: Sequence[float], window: float) -> PolyCollection:
    """Draw the similarity of each window about its middle, as wide as the next windows let it be."""
    middles = np.asarray(starts) + window / 2
    step = float(np.diff(middles).min()) if len(middles) > 1 else window
    boxes = [
        [
            (middle + x, place + y)
            for x, y in ((-step / 2, -0.35), (step / 2, -0.35), (step / 2, 0.35), (-step / 2, 0.35))
        ]
        for place in range(len(lanes))
        for middle in middles
    ]
    values = np.concatenate([np.asarray(lane.profile, dtype=float) for lane in lanes])
    cells = PolyCollection(boxes, array=values, cmap="viridis", lw=0)
    axes.add_collection(cells)
    return cells


def _outline(axes: Axes, stretches: Sequence[tuple[float, float]], place: int) -> None:
    for start, end in stretches:
        low = place - _HEIGHT / 2
        axes.add_patch(Rectangle((start, low), end - start, _HEIGHT, fill=False, edgecolor=_MATCH, lw=2, zorder=3))
