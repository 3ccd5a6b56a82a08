"""What merging keeps against what it saves: a line per family of schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

# Colours of Okabe and Ito, which stay apart for colour-blind readers; marks and dashes say the same once more.
_STYLES = {
    "fitted": ("#0072B2", "o", "-"),
    "front-loaded": ("#009E73", "D", "-"),
    "rounds": ("#4B0082", "P", "-"),
    "decreasing": ("#E69F00", "v", "--"),
    "constant": ("#D55E00", "s", "--"),
    "random merging": ("#CC79A7", "X", ":"),
    "pruning": ("#000000", "^", ":"),
    "random dropping": ("#8A8100", "<", ":"),
    "adaptive": ("#56B4E9", "P", "-."),
}
_OTHER = (("#7F7F7F", "h", "-"), ("#7A3A5E", ">", ":"), ("#5E7A3A", "d", "--"))
_TICKS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64)


class FrontierPoint(NamedTuple):
    """One schedule: its family, how many times fewer MACs it takes, and its score in percent with an interval."""

    family: str
    macs_cut: float
    score: float
    low: float | None = None
    high: float | None = None


def plot_frontier(
    points: Sequence[FrontierPoint],
    title: str,
    *,
    measure: str = "accuracy (%)",
    unmerged: float | None = None,
    close_up: float | None = None,
) -> Figure:
    """Plot a score against MACs cut, a line per family with intervals as bars.

    Args:
        points: in any order; families are drawn in the order in which they first come.
        title: above the picture.
        measure: what the score is.
        unmerged: the score of the model without merging, a dotted line.
        close_up: draw a second panel with only this many percent below the best score.

    Raises:
        ValueError: if there are no points, a number is not finite, or an interval does not hold its score.
    """
    _check(points)
    panels_wide = 1 if close_up is None else 2
    figure = Figure(figsize=(6.4 if close_up is None else 11, 4.6), layout="constrained")
    panels = list(figure.subplots(1, panels_wide, squeeze=False).flat)
    figure.suptitle(title, fontsize=11)
    for axes in panels:
        _draw(axes, points, unmerged)
        _name_axes(axes, points)
    panels[0].set_ylabel(measure)
    if close_up is not None:
        best = max([point.score for point in points] + ([] if unmerged is None else [unmerged]))
        panels[1].set_ylim(best - close_up, max(best, *(_interval(point)[1] for point in points)) + 0.05 * close_up)
        panels[1].set_title(f"the best {close_up:g} points of it", fontsize=9)
        panels[0].set_title("all", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8)
    return figure


def _check(points: Sequence[FrontierPoint]) -> None:
    if not points:
        raise ValueError("there are no points to draw: give one FrontierPoint per schedule")
    for point in points:
        low, high = _interval(point)
        finite = all(math.isfinite(value) for value in (point.macs_cut, point.score, low, high))
        if not finite or point.macs_cut <= 0 or not low <= point.score <= high:
            raise ValueError(f"{point} needs MACs cut above 0, and a finite score inside its interval")


def _interval(point: FrontierPoint) -> tuple[float, float]:
    low = point.score if point.low is None else point.low
    high = point.score if point.high is None else point.high
    return low, high


def _draw(axes: Axes, points: Sequence[FrontierPoint], unmerged: float | None) -> None:
    if unmerged is not None:
        axes.axhline(unmerged, color="0.4", lw=1.0, ls=":", label="not merged", zorder=1)
    looks = _looks(list(dict.fromkeys(point.family for point in points)))
    for family, look in looks.items():
        rows = sorted((point for point in points if point.family == family), key=lambda point: point.macs_cut)
        bars = [[p.score - _interval(p)[0] for p in rows], [_interval(p)[1] - p.score for p in rows]]
        axes.errorbar(
            [p.macs_cut for p in rows], [p.score for p in rows], yerr=bars, label=family, elinewidth=0.8, capsize=2,
            linewidth=1.3, markersize=5, **look,
        )  # fmt: skip


def _looks(families: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return matplotlib's keywords per family; a family is drawn the same in every figure, unknown ones in turn."""
    unknown = [family for family in families if family not in _STYLES]
    looks = {}
    for family in families:
        style = _STYLES[family] if family in _STYLES else _OTHER[unknown.index(family) % len(_OTHER)]
        colour, marker, line = style
        over = 3 if family == "fitted" else 2
        looks[family] = {"color": colour, "marker": marker, "linestyle": line, "zorder": over}
    return looks


def _name_axes(axes: Axes, points: Sequence[FrontierPoint]) -> None:
    most = max(point.macs_cut for point in points)
    ticks = [tick for tick in _TICKS if tick <= most * 1.1]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-accumulates of the blocks, times fewer")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
