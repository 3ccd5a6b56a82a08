import pytest
import torch
from matplotlib.collections import PatchCollection

from tome_audio.viz.figure import save_figure
from tome_audio.viz.overlay import plot_overlay
from tome_audio.viz.tradeoff import plot_tradeoff

GRID, OPTIONS = (2, 3), {"stride": (16, 8), "patch": (16, 16), "n_prefix": 2, "title": "bell"}


def overlay(assign):
    return plot_overlay(torch.randn(32, 32), torch.tensor(assign), grid=GRID, **OPTIONS)


def test_cells_lie_on_the_patch_grid_and_share_the_colour_of_their_token():
    # Patches 0 and 4 are one token, the others stay alone.
    figure = overlay([0, 1, 2, 3, 4, 5, 2, 6])
    cells = next(c for c in figure.axes[1].collections if isinstance(c, PatchCollection))
    colours = cells.get_facecolor()
    assert len(colours) == 6
    assert (colours[0] == colours[4]).all() and colours[0][3] > 0
    assert [colour[3] for i, colour in enumerate(colours) if i not in (0, 4)] == [0, 0, 0, 0]
    centres = [path.vertices[:4].mean(0) for path in cells.get_paths()]
    for f in range(2):
        for t in range(3):
            # A patch spans frames 8 t to 8 t + 16 and bins 16 f to 16 f + 16; frames are 10 ms.
            assert centres[3 * f + t].tolist() == pytest.approx([(8 * t + 8) * 0.01, 16 * f + 8])


def test_wrong_number_of_tokens():
    with pytest.raises(ValueError, match="assign must have 8 entries"):
        overlay([0, 1, 2])


def test_tradeoff_draws_every_setting_and_connects_the_constant_ones(tmp_path):
    args = ([1.0, 2.0, 4.0], [0.9, 1.6, 3.0], [97.0, 96.5, 90.0], ["r=0", "r=8", "[4,2]"])
    figure = plot_tradeoff(*args, [True, True, False], "kwt1")
    points, line = figure.axes[0].lines[:2]
    assert points.get_xydata().tolist() == [[1.0, 97.0], [2.0, 96.5], [4.0, 90.0]]
    assert line.get_xydata().tolist() == [[1.0, 97.0], [2.0, 96.5]]
    assert {text.get_text() for text in figure.axes[0].texts} == {"r=0", "r=8", "[4,2]"}
    with pytest.raises(ValueError, match="one entry per setting"):
        plot_tradeoff([1.0], [1.0], [1.0], ["a"], [], "x")


def test_figures_are_written_whole_or_not_at_all(tmp_path):
    figure = plot_tradeoff([1.0], [1.0], [50.0], ["r=0"], [True], "x")
    assert save_figure(figure, tmp_path / "a.png") == [tmp_path / "a.png", tmp_path / "a.svg"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(OSError):
        save_figure(figure, tmp_path / "none" / "a.png")
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.svg"}
