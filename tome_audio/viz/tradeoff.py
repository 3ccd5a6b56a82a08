"""Accuracy against how much cheaper the model runs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure


def plot_tradeoff(
    macs_cut: Sequence[float],
    speedup: Sequence[float],
    accuracy: Sequence[float],
    names: Sequence[str],
    connected: Sequence[bool],
    title: str,
) -> Figure:
    """Plot accuracy (percent) against MACs cut and against measured speed-up (both in times), a point per setting.

    Settings marked in `connected` form a line, in the order given; the others stand alone.

    Raises:
        ValueError: if the sequences differ in length.
    """
    if not len(macs_cut) == len(speedup) == len(accuracy) == len(names) == len(connected):
        raise ValueError("macs_cut, speedup, accuracy, names and connected must have one entry per setting")
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    line = [i for i, is_connected in enumerate(connected) if is_connected]
    for cheaper, colour, mark, label in (
        (macs_cut, "tab:blue", "o", "fewer multiply-accumulates"),
        (speedup, "tab:orange", "s", "measured speed-up"),
    ):
        axes.plot(cheaper, accuracy, mark, color=colour, label=label)
        axes.plot([cheaper[i] for i in line], [accuracy[i] for i in line], color=colour, lw=1)
    for x, y, name in zip(macs_cut, accuracy, names, strict=True):
        axes.annotate(name, (x, y), xytext=(4, 6), textcoords="offset points", fontsize=8)
    axes.margins(x=0.16, y=0.12)
    axes.set_xlabel("times cheaper than the unpatched model")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
