"""Benchmark records as figures: accuracy against cost, and speed against the multiply-accumulates cut."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tome_audio.viz.series import SERIES, short_rate, speed_bars, style, with_series

_AXES = {
    "macs_cut": "multiply-accumulates of the blocks, times fewer than unpatched",
    "speedup": "measured speed-up, times faster than unpatched",
}


def plot_accuracy(frame: pd.DataFrame, against: Literal["macs_cut", "speedup"], title: str) -> Figure | None:
    """Plot accuracy (percent) against MACs cut or measured speed-up, a line per method; None without data.

    Args:
        frame: accuracy records of one model and machine; `accuracy_spoken` is drawn where it is known.
        against: column of the horizontal axis; for speed-ups, quartiles are drawn as bars.
        title: above the figure.
    """
    # The unpatched model is what the others are compared with: 1 by definition.
    frame = frame.assign(**{against: frame[against].mask(frame["method"] == "unpatched", 1.0)})
    frame = frame[frame[against].notna() & frame["accuracy"].notna()]
    if frame.empty or (frame["method"] == "unpatched").all():
        return None
    spoken = bool(frame["accuracy_spoken"].notna().all())
    frame = with_series(frame.assign(score=frame["accuracy_spoken" if spoken else "accuracy"]))
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for label, rows, look in _series(frame):
        bars = speed_bars(rows, "x") if against == "speedup" else {}
        axes.errorbar(rows[against], rows["score"], label=label, **bars, **look)
        if rows["method"].iloc[0] == "merged":
            _name_rates(axes, rows[against], rows["score"], rows["r"])
    unpatched = frame.loc[frame["method"] == "unpatched", "score"]
    if len(unpatched):
        axes.axhline(unpatched.iloc[0], color="0.5", lw=0.8, ls=":", zorder=0)
    axes.set_xlabel(_AXES[against])
    axes.set_ylabel("accuracy, silence left out (%)" if spoken else "accuracy (%)")
    axes.margins(x=0.1, y=0.1)
    _finish(axes, title)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def plot_speedup(frame: pd.DataFrame, dtype: str, title: str) -> Figure | None:
    """Plot measured speed-up against MACs cut, a panel per model with the ideal diagonal; None without data.

    Each panel shows the batch that most settings were timed at, the largest of these.

    Args:
        frame: throughput records of one machine.
        dtype: of the records to draw; their baseline is the unpatched model in the same dtype.
        title: above the figure.
    """
    frame = frame[(frame["dtype"] == dtype) & frame["speedup"].notna() & frame["macs_cut"].notna()]
    frame = frame[frame["method"] != "unpatched"]
    if frame.empty:
        return None
    settings = frame.groupby(["model", "batch"])["r"].transform("size")
    frame = frame[settings == settings.groupby(frame["model"]).transform("max")]
    frame = with_series(frame[frame["batch"] == frame.groupby("model")["batch"].transform("max")])
    models = list(frame["model"].unique())
    columns = min(3, len(models))
    lines = math.ceil(len(models) / columns)
    figure = Figure(figsize=(max(6.0, 3.4 * columns), 3.3 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    entries: dict[str, Any] = {}
    for axes, model in zip(panels.flat, models, strict=False):
        rows = frame[frame["model"] == model]
        entries.update(_speed_panel(axes, rows))
        _finish(axes, f"{model}, batch {rows['batch'].iloc[0]:.0f}")
    for axes in panels.flat[len(models) :]:
        axes.set_visible(False)
    figure.suptitle(title)
    for axes in panels[:, 0]:
        axes.set_ylabel("measured speed-up, times faster", fontsize=9)
    for place, axes in enumerate(panels.flat):
        if place < len(models) <= place + columns:
            axes.set_xlabel("multiply-accumulates, times fewer", fontsize=9)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=(2, 2, 4)[columns - 1], fontsize=8
    )
    return figure


def _speed_panel(axes: Axes, rows: pd.DataFrame) -> dict[str, Any]:
    """Draw one model; return its legend entries."""
    low = min(1.0, rows["speedup_low"].min(), rows["speedup"].min())
    high = max(rows["macs_cut"].max(), rows["speedup_high"].max(), rows["speedup"].max(), 1.2)
    entries: dict[str, Any] = {}
    (entries["as fast as the MACs promise"],) = axes.plot([1.0, high], [1.0, high], color="0.5", lw=0.9, ls=":")
    axes.axhline(1.0, color="0.8", lw=0.8, zorder=0)
    for label, part, look in _series(rows):
        entries[label] = axes.errorbar(part["macs_cut"], part["speedup"], **speed_bars(part, "y"), **look)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return entries


def _series(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, Any]]]:
    groups: list[tuple[Hashable, pd.DataFrame]] = list(frame.groupby(SERIES, sort=False))
    for _, rows in groups:
        ordered = rows.sort_values("macs_cut", kind="stable")
        yield ordered["label"].iloc[0], ordered, style(ordered.iloc[0].to_dict())


def _name_rates(axes: Axes, x: pd.Series, y: pd.Series, rates: pd.Series) -> None:
    for at, height, r in zip(x, y, rates, strict=True):
        axes.annotate(short_rate(r), (at, height), xytext=(4, 6), textcoords="offset points", fontsize=7)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
