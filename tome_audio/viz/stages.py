"""Where the time goes: stages as stacked bars."""

from __future__ import annotations

import json

import pandas as pd
from matplotlib.figure import Figure

from tome_audio.viz.series import short_rate

# Colours of Okabe and Ito; merging is the blue that it has in every figure.
_COLOURS = {
    "features": "#E69F00",
    "patch_embedding": "#56B4E9",
    "blocks": "#0072B2",
    "head": "#CC79A7",
    "attention": "#BBBBBB",
    "matching": "#D55E00",
    "merging": "#0072B2",
    "feed_forward": "#DDDDDD",
}
_LEAST_NAMED = 0.05


def plot_stages(frame: pd.DataFrame, title: str) -> Figure | None:
    """Draw one bar per record, the shares of its stages stacked (percent); None without data.

    The speed-up over the unpatched model stands beside the bar where it is known.

    Args:
        frame: records of one machine with the column `stage_shares` (JSON: stage to share).
        title: above the figure.
    """
    frame = frame[frame["stage_shares"].notna() & (frame["stage_shares"] != "")]
    if frame.empty:
        return None
    rows = frame.to_dict("records")
    shares = [json.loads(row["stage_shares"]) for row in rows]
    stages = list(dict.fromkeys(stage for share in shares for stage in share))
    figure = Figure(figsize=(8, 1.5 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for stage in stages:
        widths = [100 * share.get(stage, 0.0) for share in shares]
        colour = _COLOURS.get(stage, "#7F7F7F")
        bars = axes.barh(range(len(rows)), widths, 0.72, left, color=colour, edgecolor="white", lw=0.6)
        bars.set_label(stage.replace("_", " "))
        names = [f"{width:.0f}" if width >= 100 * _LEAST_NAMED else "" for width in widths]
        axes.bar_label(bars, names, label_type="center", fontsize=7, color=_ink(colour))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, row in enumerate(rows):
        if row["speedup"] == row["speedup"] and row["method"] != "unpatched":
            axes.annotate(f"{row['speedup']:.2f}x faster", (101, place), va="center", fontsize=7, annotation_clip=False)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the time (%)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(stages), fontsize=8, frameon=False)
    return figure


def _name(row: dict) -> str:
    rate = "" if row["method"] == "unpatched" else f" r={short_rate(row['r'])}"
    options = [f"batch {row['batch']:.0f}"]
    options += ["bf16"] if row["dtype"] == "bfloat16" else []
    options += ["compiled"] if row["compiled"] else []
    return f"{row['model']} {row['method']}{rate}, {', '.join(options)}"


def _ink(colour: str) -> str:
    """Return black on light colours and white on dark ones."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
