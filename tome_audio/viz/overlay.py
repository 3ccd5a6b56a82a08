"""Merged tokens drawn over the spectrogram they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor


def plot_overlay(
    features: Tensor,
    assign: Tensor,
    *,
    grid: tuple[int, int],
    stride: tuple[int, int],
    patch: tuple[int, int],
    n_prefix: int,
    title: str,
    hop_seconds: float = 0.01,
) -> Figure:
    """Draw a spectrogram, and once more with the patches of each merged token in one colour.

    Where strides overlap a patch is drawn as its centre cell of one stride, so that cells do not cover each other.

    Args:
        features: log-mel features (T frames, F mel bins) of one clip.
        assign: slot of each input token (N,), prefix tokens first, patches frequency-major.
        grid: patches along (frequency, time).
        stride: step between patches in (mel bins, frames).
        patch: size of a patch in (mel bins, frames).
        n_prefix: P, the tokens at the front that are not patches.
        title: Above the upper picture.
        hop_seconds: seconds per frame.

    Raises:
        ValueError: if `assign` does not hold P plus one entry per patch.
    """
    if assign.shape != (n_prefix + grid[0] * grid[1],):
        raise ValueError(f"assign must have {n_prefix + grid[0] * grid[1]} entries, got shape {tuple(assign.shape)}")
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    image = features.detach().cpu().numpy().T
    extent = (0.0, image.shape[1] * hop_seconds, 0.0, float(image.shape[0]))
    for axes in (upper, lower):
        axes.imshow(image, origin="lower", aspect="auto", extent=extent, cmap="magma" if axes is upper else "gray")
        axes.set_ylabel("mel bin")
    groups = assign[n_prefix:].reshape(grid).cpu().numpy()
    lower.add_collection(PatchCollection(_cells(grid, stride, patch, hop_seconds), facecolors=_colours(groups), lw=0.2))
    left = len(np.unique(groups))
    upper.set_title(title)
    lower.set_title(
        f"{groups.size} patches merged into {left}; patches of one colour are one token, grey ones stay alone"
    )
    lower.set_xlabel("time (s)")
    return figure


def _cells(grid: Sequence[int], stride: Sequence[int], patch: Sequence[int], hop: float) -> list[Rectangle]:
    height, width = min(stride[0], patch[0]), min(stride[1], patch[1])
    lift, shift = (patch[0] - height) / 2, (patch[1] - width) / 2
    return [
        Rectangle(((t * stride[1] + shift) * hop, f * stride[0] + lift), width * hop, height)
        for f in range(grid[0])
        for t in range(grid[1])
    ]


def _colours(groups: np.ndarray) -> np.ndarray:
    """Return RGBA per patch: one hue per merged group, far apart for neighbours; single patches stay see-through."""
    from matplotlib import colormaps

    _, index, counts = np.unique(groups.ravel(), return_inverse=True, return_counts=True)
    hue = (index * 0.618034) % 1.0
    colours = colormaps["hsv"](hue)
    colours[:, 3] = np.where(counts[index] > 1, 0.45, 0.0)
    return np.asarray(colours)
