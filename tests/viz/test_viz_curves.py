import pytest

from tome_audio.viz.curves import plot_errors


def test_a_line_per_kind_of_song_with_its_last_error():
    figure = plot_errors([1, 2, 3], {"training songs": [90.0, 40.0, 12.5], "unseen songs": [95.0, 80.0, 70.0]}, "x")
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[90.0, 40.0, 12.5], [95.0, 80.0, 70.0]]
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["training songs: 12.5 % at the end", "unseen songs: 70.0 % at the end"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_one_epoch_is_a_mark():
    (line,) = plot_errors([1], {"training songs": [50.0]}, "x").axes[0].lines
    assert line.get_marker() == "o"


@pytest.mark.parametrize(
    ("epochs", "errors"), [([], {"a": []}), ([1], {}), ([1, 2], {"a": [1.0]}), ([1], {str(i): [1.0] for i in range(5)})]
)
def test_curves_that_cannot_be_drawn(epochs, errors):
    with pytest.raises(ValueError, match="one value per epoch"):
        plot_errors(epochs, errors, "x")
