"""Merged tokens drawn over the spectrogram they stand for."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from tome_audio.viz.grid import TokenGrid
from tome_audio.viz.group_colours import PALETTE, colour_groups, colour_layers
from tome_audio.viz.regions import Region, find_regions, groups_on_grid, longest_run, parts, patches_per_token

_NAMED_GROUPS, _NAMED_PARTS = 8, 3
_LINEAR_SIZES = 8


class ClipView(NamedTuple):
    """A clip as the model sees it: log-mel `image` (T frames, F mel bins), the grid, and how many frames are audio."""

    image: Tensor
    grid: TokenGrid
    n_valid: int


def plot_overlay(view: ClipView, assign: Tensor, *, title: str) -> Figure:
    """Draw a spectrogram, once more with its merged tokens, and how many patches a token stands for over time.

    Patches that became one token are one outlined region in one colour, wherever they lie; patches that stayed alone
    are left as they are.

    Args:
        view: the clip.
        assign: slot of each input token (N,), prefix tokens first, patches frequency-major.
        title: above the picture.

    Raises:
        ValueError: if `assign` does not hold P plus one entry per patch.
    """
    groups = _groups(view, assign)
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    figure.suptitle(_wrap(title, 100), fontsize=11)
    _draw_clip(upper, view, "magma")
    _draw_clip(middle, view, "Greys")
    regions = find_regions(groups)
    _draw_regions(middle, regions, view.grid, colour_groups(groups))
    _name_sizes(middle, regions, groups, view.grid)
    middle.set_title(_caption(regions, view.grid), fontsize=9)
    _draw_sizes(lower, groups, view)
    lower.set_xlabel("time (s)")
    for axes in (upper, middle):
        axes.set_ylabel("frequency (Hz)")
    return figure


def plot_layers(view: ClipView, layers: Sequence[tuple[str, Tensor]], *, title: str) -> Figure:
    """Draw a spectrogram and, in small pictures beside it, its merged tokens after each of several layers.

    Args:
        view: the clip.
        layers: name and slot of each input token (N,), in the order of the layers.
        title: above the picture.

    Raises:
        ValueError: if a layer does not hold P plus one entry per patch, or there is none.
    """
    if not layers:
        raise ValueError("there is no layer to draw")
    all_groups = [_groups(view, assign) for _, assign in layers]
    columns = min(4, len(layers) + 1)
    lines = math.ceil((len(layers) + 1) / columns)
    figure = Figure(figsize=(2.8 * columns, 1.7 * lines + 0.7), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    figure.suptitle(_wrap(title, 32 * columns), fontsize=11)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("frequency (Hz)", fontsize=9)
    _draw_clip(panels.flat[0], view, "magma", named=False)
    panels.flat[0].set_title("the clip", fontsize=9)
    colours = colour_layers(all_groups)
    for axes, (name, _), groups, chosen in zip(panels.flat[1:], layers, all_groups, colours, strict=False):
        _draw_clip(axes, view, "Greys", named=False)
        _draw_regions(axes, find_regions(groups), view.grid, chosen, line=0.4)
        axes.set_title(f"{name}: {len(np.unique(groups))} tokens", fontsize=9)
    for axes in panels.flat[len(layers) + 1 :]:
        axes.set_visible(False)
    for place, axes in enumerate(panels.flat):
        axes.tick_params(labelbottom=place + columns > len(layers))  # where nothing is drawn below
    return figure


def _wrap(title: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width) for line in title.splitlines())


def _groups(view: ClipView, assign: Tensor) -> np.ndarray:
    return groups_on_grid(assign.detach().cpu().numpy(), view.grid.shape, view.grid.n_prefix)


def _draw_clip(axes: Axes, view: ClipView, colours: str, *, named: bool = True) -> None:
    """Draw the spectrogram with axes in seconds and hertz, and mark the padding."""
    image = view.image.detach().cpu().float().numpy().T
    audio = image[:, : view.n_valid]
    low, high = np.percentile(audio, (2, 99.8)) if audio.size else (0.0, 1.0)
    if colours == "Greys":
        high += 0.6 * (high - low)  # black would swallow the colours over it
    left, right, bottom, top = view.grid.extent
    end = view.grid.seconds(view.n_valid)
    axes.imshow(
        audio, origin="lower", aspect="auto", extent=(left, end, bottom, top), cmap=colours, vmin=low, vmax=high,
        interpolation="nearest",
    )  # fmt: skip
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_yticks(*view.grid.ticks(apart=0.07 if named else 0.12))
    axes.tick_params(labelsize=8)
    if end < right:
        faint = "0.75" if colours == "magma" else "0.87"  # behind the tokens the hatching must not distract
        axes.axvspan(end, right, facecolor="0.95", edgecolor=faint, hatch="///", lw=0, zorder=0.5)
        axes.axvline(end, color="0.35", lw=0.9, ls="--", zorder=4)
        if colours == "magma":
            _write(axes, (end + right) / 2, top * 0.93, "padding", color="0.25")


def _draw_regions(
    axes: Axes, regions: Sequence[Region], grid: TokenGrid, colours: Mapping[int, int], *, line: float = 0.7
) -> None:
    """Draw each token of several patches as one shape: all its parts, with outlines."""
    for region in regions:
        if region.slot in colours:
            colour = PALETTE[colours[region.slot]]
            shape = region_path(region, grid)
            axes.add_patch(PathPatch(shape, facecolor=colour, alpha=0.55, lw=0, zorder=2))
            axes.add_patch(PathPatch(shape, facecolor="none", edgecolor="0.1", lw=line, zorder=3, joinstyle="miter"))


def region_path(region: Region, grid: TokenGrid) -> Path:
    """Return the outlines of a region as one path in (seconds, mel bins)."""
    seconds, bins = grid.time_edges(), grid.mel_edges()
    rings = []
    for ring in region.rings:
        corners = np.column_stack((seconds[ring[:, 1]], bins[ring[:, 0]]))
        rings.append(Path(corners[[*range(len(corners)), 0]], closed=True))
    return Path.make_compound_path(*rings)


def _name_sizes(axes: Axes, regions: Sequence[Region], groups: np.ndarray, grid: TokenGrid) -> None:
    """Write how many patches they stand for on the largest tokens, on their largest parts where there is room."""
    seconds, bins = grid.time_edges(), grid.mel_edges()
    room = max(2, grid.shape[1] // 40)
    for region in regions[:_NAMED_GROUPS]:
        if region.size == 1:
            break
        for order, part in enumerate(parts(groups == region.slot)[:_NAMED_PARTS]):
            row, start, length = longest_run(part)
            if order == 0 or length >= room:
                place = (seconds[start] + seconds[start + length]) / 2, (bins[row] + bins[row + 1]) / 2
                _write(axes, *place, str(region.size))


def _draw_sizes(axes: Axes, groups: np.ndarray, view: ClipView) -> None:
    """Draw how many patches a token stands for over time, on a logarithmic axis where that is a lot."""
    mean = patches_per_token(groups)
    axes.stairs(mean, view.grid.time_edges(), baseline=1.0, fill=True, color="#0072B2", alpha=0.8)
    if view.grid.seconds(view.n_valid) < view.grid.extent[1]:
        axes.axvline(view.grid.seconds(view.n_valid), color="0.35", lw=0.9, ls="--")
    if mean.max() > _LINEAR_SIZES:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(1.0, max(2.0, 1.1 * mean.max()))
    axes.set_ylabel(f"{view.grid.units}\nper token")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(regions: Sequence[Region], grid: TokenGrid) -> str:
    count = sum(region.size for region in regions)
    merged = [region for region in regions if region.size > 1]
    if not merged:
        return f"{count} {grid.units}, none of them merged"
    alone = len(regions) - len(merged)
    kept = f", {alone} of them still a single {grid.unit} (uncoloured)" if alone else ""
    named = "each" if len(merged) <= _NAMED_GROUPS else f"the {_NAMED_GROUPS} largest"
    return f"{count} {grid.units} became {len(regions)} tokens{kept}; numbers: {grid.units} in {named}"


def _write(axes: Axes, x: float, y: float, text: str, color: str = "black") -> None:
    around = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=color, zorder=5, path_effects=around)
