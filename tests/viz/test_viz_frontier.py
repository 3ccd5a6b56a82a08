import pytest

from tome_audio.viz.frontier import FrontierPoint, plot_frontier

POINTS = [
    FrontierPoint("constant", 3.0, 86.0, 84.7, 87.2),
    FrontierPoint("constant", 2.0, 96.4, 95.6, 97.1),
    FrontierPoint("fitted", 3.0, 97.1, 96.4, 97.7),
    FrontierPoint("made up", 2.5, 90.0),
]


def test_each_family_is_a_line_in_order_with_its_intervals():
    figure = plot_frontier(POINTS, "KWT-1", unmerged=97.0)
    containers = {container.get_label(): container for container in figure.axes[0].containers}
    assert list(containers) == ["constant", "fitted", "made up"]
    line, _, bars = containers["constant"]
    assert line.get_xydata().tolist() == [[2.0, 96.4], [3.0, 86.0]]
    ends = [segment[:, 1].tolist() for segment in bars[0].get_segments()]
    assert [*ends[0], *ends[1]] == pytest.approx([95.6, 97.1, 84.7, 87.2])
    looks = {(c[0].get_color(), c[0].get_marker()) for c in containers.values()}
    assert len(looks) == 3
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {*containers, "not merged"}


def test_the_close_up_shows_the_best_points_of_the_same_lines():
    figure = plot_frontier(POINTS, "KWT-1", unmerged=97.3, close_up=2.0)
    whole, close = figure.axes
    assert close.get_ylim() == pytest.approx((95.3, 97.8)) and whole.get_ylim()[0] < 86
    assert len(close.containers) == len(whole.containers) == 3
    assert [tick.get_text() for tick in whole.get_xticklabels()] == ["1x", "1.5x", "2x", "3x"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no points"),
        ([FrontierPoint("a", 2.0, float("nan"))], "finite"),
        ([FrontierPoint("a", 0.0, 90.0)], "above 0"),
        ([FrontierPoint("a", 2.0, 90.0, 91.0, 92.0)], "inside its interval"),
    ],
)
def test_points_that_cannot_be_drawn(points, message):
    with pytest.raises(ValueError, match=message):
        plot_frontier(points, "x")
