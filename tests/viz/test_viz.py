import pytest

from tome_audio.viz.figure import save_figure
from tome_audio.viz.tradeoff import plot_tradeoff


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
    assert save_figure(figure, tmp_path / "b.svg", [".svg"]) == [tmp_path / "b.svg"]
    with pytest.raises(OSError):
        save_figure(figure, tmp_path / "none" / "a.png")
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.svg", "b.svg"}
