"""Errors over the epochs of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_STYLES = (("tab:blue", "-"), ("tab:orange", "--"), ("tab:green", ":"), ("tab:red", "-."))


def plot_errors(epochs: Sequence[int], errors: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Plot errors in percent against the number of epochs done, a line per name.

    Raises:
        ValueError: Nothing to plot, more than four lines, or a line without one value per epoch.
    """
    if not epochs or not 1 <= len(errors) <= len(_STYLES) or any(len(own) != len(epochs) for own in errors.values()):
        raise ValueError("error curves need epochs, one to four lines, and one value per epoch in each")
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, own), (colour, line) in zip(errors.items(), _STYLES, strict=False):
        mark = "o" if len(epochs) == 1 else ""
        axes.plot(list(epochs), list(own), line, marker=mark, color=colour, label=f"{name}: {own[-1]:.1f} % at the end")
    axes.set_xlabel("epochs")
    axes.set_ylabel("error (%)")
    axes.set_ylim(0, 102)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
