import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from tome_audio.viz.matches import Lane, plot_matches

LANES = [
    Lane("first", "0.9, +2 semitones", [0.1, 0.9, 0.2], [(2.0, 6.0)], [(10.0, 14.0)], 60.0),
    Lane("second", "0.4", [0.4, 0.3, 0.2], [], [], 30.0),
]


def test_lanes_have_a_cell_per_window_and_the_stretches_that_match():
    figure = plot_matches(LANES, [0.0, 2.0, 4.0], 4.0, 8.0, title="a song")
    song, original, _ = figure.axes
    (cells,) = [drawn for drawn in song.collections if isinstance(drawn, PolyCollection)]
    assert cells.get_array().tolist() == [0.1, 0.9, 0.2, 0.4, 0.3, 0.2]
    assert [path.get_extents().bounds[:3:2] for path in cells.get_paths()][:3] == [(1, 2), (3, 2), (5, 2)]
    (outline,) = [patch for patch in song.patches if isinstance(patch, Rectangle)]
    assert (outline.get_x(), outline.get_width()) == (2, 4)
    assert [label.get_text() for label in song.get_yticklabels()] == ["first\n0.9, +2 semitones", "second\n0.4"]
    assert song.get_xlim() == (0, 8) and original.get_xlim() == (0, 60)
    assert [(bar.get_x(), bar.get_width()) for bar in original.patches] == [(0, 60), (10, 4), (0, 30)]


def test_one_window_is_drawn_too():
    figure = plot_matches([LANES[0]._replace(profile=[0.5])], [0.0], 4.0, 1.5, title="short")
    figure.draw_without_rendering()


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="no original to draw"):
        plot_matches([], [0.0], 4.0, 8.0, title="")
    with pytest.raises(ValueError, match="one value for each of 2 windows"):
        plot_matches(LANES, [0.0, 1.0], 4.0, 8.0, title="")
