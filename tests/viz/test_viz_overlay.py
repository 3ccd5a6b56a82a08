from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from tome_audio.viz.grid import TokenGrid
from tome_audio.viz.overlay import ClipView, plot_layers, plot_overlay, region_path
from tome_audio.viz.regions import find_regions

# Patches of 16 bins by 16 frames, every 16 bins and 8 frames: 2 by 3 of them.
GRID = TokenGrid(n_mels=32, n_frames=32, patch=(16, 16), stride=(16, 8), n_prefix=2)
VIEW = ClipView(torch.randn(32, 32), GRID, 32)
# Patches 0 and 4 are one token, so are 2 and 5; the others stay alone.
ASSIGN = torch.tensor([0, 1, 2, 3, 4, 5, 2, 4])


def shapes(axes):
    return [patch for patch in axes.patches if isinstance(patch, PathPatch) and patch.get_facecolor()[3] > 0]


def test_merged_patches_are_regions_on_the_patch_grid():
    figure = plot_overlay(VIEW, ASSIGN, title="bell")
    upper, middle, lower = figure.axes
    assert not shapes(upper) and len(shapes(middle)) == 2
    scattered, tall = (shape.get_path() for shape in shapes(middle))
    # Columns end half way between centres, at frames 12 and 20; frame 0 begins at 7.5 ms.
    assert tall.get_extents().get_points() == pytest.approx(np.array([[0.2075, 0], [0.3275, 32]]))
    assert scattered.contains_point((0.05, 8)) and scattered.contains_point((0.15, 24))
    assert not scattered.contains_point((0.15, 8)) and not scattered.contains_point((0.05, 24))
    assert [text.get_text() for text in middle.texts] == ["2", "2"]
    assert "6 patches became 4 tokens, 2 of them still a single patch" in middle.get_title()
    assert lower.get_xlabel() == "time (s)" and upper.get_ylabel() == "frequency (Hz)"
    assert figure.get_suptitle() == "bell"


def test_a_region_is_drawn_with_all_its_parts_and_its_holes():
    grid = TokenGrid(n_mels=3, n_frames=3, patch=(1, 1), stride=(1, 1), n_prefix=0)
    groups = np.ones((3, 3), dtype=int)
    groups[1, 1] = 0
    figure = Figure(figsize=(3, 3), dpi=10)
    axes = figure.add_axes((0, 0, 1, 1), xlim=grid.extent[:2], ylim=grid.extent[2:])
    axes.axis("off")
    axes.add_patch(PathPatch(region_path(find_regions(groups)[0], grid), facecolor="black", lw=0))
    FigureCanvasAgg(figure).draw()
    # The middle of each of the nine cells, from above to below: black but for the hole.
    pixels = np.asarray(figure.canvas.buffer_rgba())[5::10, 5::10, 0]
    assert pixels.tolist() == [[0, 0, 0], [0, 255, 0], [0, 0, 0]]


def test_groups_beside_each_other_differ_in_colour():
    grid = TokenGrid(n_mels=8, n_frames=40, patch=(8, 1), stride=(8, 1), n_prefix=1)
    assign = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.arange(40) // 4])
    figure = plot_overlay(ClipView(torch.randn(40, 8), grid, 40), assign, title="x")
    drawn = sorted(shapes(figure.axes[1]), key=lambda shape: shape.get_path().get_extents().x0)
    colours = [to_rgb(shape.get_facecolor()) for shape in drawn]
    assert len(colours) == 10 and all(a != b for a, b in pairwise(colours))


def test_padding_is_marked_and_only_where_there_is_some():
    padded = plot_overlay(VIEW._replace(n_valid=20), ASSIGN, title="x")
    whole = plot_overlay(VIEW, ASSIGN, title="x")
    assert "padding" in {text.get_text() for text in padded.axes[0].texts}
    assert "padding" not in {text.get_text() for text in whole.axes[0].texts}
    assert len(padded.axes[1].patches) == len(whole.axes[1].patches) + 1  # the hatching
    assert padded.axes[0].images[0].get_extent()[:2] == pytest.approx([0.0075, 0.2075])
    assert padded.axes[0].get_xlim() == whole.axes[0].get_xlim() == pytest.approx((0.0075, 0.3275))


def test_nothing_merged():
    figure = plot_overlay(VIEW, torch.arange(8), title="x")
    assert not shapes(figure.axes[1]) and figure.axes[1].get_title() == "6 patches, none of them merged"


def test_wrong_number_of_tokens():
    with pytest.raises(ValueError, match="assign must have 8 entries"):
        plot_overlay(VIEW, torch.tensor([0, 1, 2]), title="x")
    with pytest.raises(ValueError, match="no layer"):
        plot_layers(VIEW, [], title="x")


@pytest.mark.parametrize("count", [1, 3, 4, 12])
def test_a_small_picture_per_layer(count):
    figure = plot_layers(VIEW, [(f"after block {i}", ASSIGN) for i in range(count)], title="x")
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ["the clip", *[f"after block {i}: 4 tokens" for i in range(count)]]
    # In each column the lowest picture, and no other, names its times.
    lowest = {axes.get_subplotspec().colspan.start: axes for axes in figure.axes if axes.get_visible()}
    for axes in figure.axes:
        named = axes.xaxis.get_tick_params()["labelbottom"]
        assert named == (axes in lowest.values()) or not axes.get_visible()
