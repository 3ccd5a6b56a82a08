"""Time against the number of tokens, and from where merging pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tome_audio.viz.series import SERIES, short_rate, speed_bars, style, with_series


def plot_scaling(frame: pd.DataFrame, title: str) -> Figure | None:
    """Plot time per clip and speed-up against tokens, unpatched and patched; None without data.

    Time is in milliseconds where clips per second are known (a GPU), otherwise relative to the unpatched model at the
    fewest tokens. A vertical line marks the fewest measured tokens from which on merging is always faster.

    Args:
        frame: scaling records of one machine and dtype.
        title: above the figure.
    """
    patched = frame[(frame["method"] != "unpatched") & frame["speedup"].notna()]
    if patched.empty:
        return None
    absolute = bool(frame["clips_per_second"].notna().any())
    time = 1000 / frame["clips_per_second"] if absolute else frame["relative_time"]
    frame = with_series(frame.assign(time=time))
    has_time = bool(frame["time"].notna().any())
    figure = Figure(figsize=(7.5, 6.4 if has_time else 4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True) if has_time else (None, figure.subplots())
    for label, rows, look in _curves(frame):
        if upper is not None:
            upper.plot(rows["n_tokens"], rows["time"], label=label, **look)
        if rows["method"].iloc[0] != "unpatched":
            _speed_curve(lower, rows, label, look)
    _name_axes(lower, sorted(frame["n_tokens"].unique()))
    if upper is not None:
        _name_time(upper, "time per clip (ms)" if absolute else "time per clip\n(unpatched at the fewest tokens = 1)")
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return figure


def pays_from(rows: pd.DataFrame) -> int | None:
    """Return the fewest measured tokens from which on every speed-up is above 1; None if that of the most is not."""
    start = None
    descending = rows.sort_values("n_tokens", ascending=False)
    for tokens, speedup in zip(descending["n_tokens"], descending["speedup"], strict=True):
        if speedup <= 1:
            break
        start = int(tokens)
    return start


def _curves(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Yield label, rows by tokens, and look of each curve; one per r where several r share a number of tokens."""
    frame = frame.assign(family=frame["model"].str.split("-").str[0])
    families = list(frame["family"].unique())
    for _, rows in frame.groupby(["family", *SERIES], sort=False):
        parts = rows.groupby("r", sort=False) if rows["n_tokens"].duplicated().any() else [("", rows)]
        for order, (r, part) in enumerate(parts):
            label = str(part["label"].iloc[0]) + (f", r = {short_rate(str(r))}" if r else "")
            label += f", {part['family'].iloc[0]}" if frame["family"].nunique() > 1 else ""
            look = style(part.iloc[0].to_dict())
            # The colour says the method, the dashes say which model and r.
            look["linestyle"] = ("-", "--", "-.", ":")[(order + families.index(part["family"].iloc[0])) % 4]
            yield label, part.sort_values("n_tokens"), look


def _speed_curve(axes: Axes, rows: pd.DataFrame, label: str, look: dict[str, Any]) -> None:
    axes.errorbar(rows["n_tokens"], rows["speedup"], label=label, **speed_bars(rows, "y"), **look)
    start = pays_from(rows)
    if start is not None:
        axes.axvline(start, color=look["color"], lw=0.9, ls=look["linestyle"], alpha=0.6, zorder=0)
        place = (start, 1.0)
        axes.annotate(
            f"pays from {start} tokens", place, xytext=(-3, -2), textcoords="offset points", fontsize=7,
            color=look["color"], rotation=90, ha="right", va="top", xycoords=("data", "axes fraction"),
        )  # fmt: skip


def _name_axes(axes: Axes, tokens: list[float]) -> None:
    axes.axhline(1.0, color="0.5", lw=0.8, ls=":")
    axes.set_ylabel("measured speed-up, times faster")
    axes.set_xlabel("tokens entering the first block")
    axes.set_xscale("log")
    axes.set_xticks(tokens, [f"{number:.0f}" for number in tokens])
    axes.xaxis.set_minor_locator(NullLocator())


def _name_time(axes: Axes, name: str) -> None:
    axes.set_yscale("log")
    axes.set_ylabel(name)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
