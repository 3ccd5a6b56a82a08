import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tome_audio.data.clips import DataError
from tome_audio.retrieval import calibrate, read_calibration, write_calibration

SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


@given(without=SCORES, with_sample=SCORES, rate=st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9]))
def test_the_threshold_is_the_smallest_that_keeps_to_the_rate(without, with_sample, rate):
    found = calibrate(without, with_sample, rate=rate, n_references=9)

    def part_above(threshold, scores):
        return sum(score > threshold for score in scores) / len(scores)

    assert part_above(found.threshold, without) == found.false_positive_rate <= rate + 1e-9
    assert found.detection_rate == part_above(found.threshold, with_sample)
    smaller = [score for score in without if score < found.threshold]
    if smaller:  # the next smaller threshold that would change anything
        assert part_above(max(smaller), without) > rate
    assert (found.n_without, found.n_with, found.n_references) == (len(without), len(with_sample), 9)


def test_numbers():
    found = calibrate([n / 100 for n in range(100)], [0.95, 0.97, 0.2], rate=0.05, n_references=3)
    assert found.threshold == 0.94 and found.false_positive_rate == 0.05
    assert found.detection_rate == pytest.approx(2 / 3)
    alone = calibrate([0.3, 0.1], n_references=3)
    assert (alone.threshold, alone.detection_rate) == (0.3, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"without": []}, "there is none"),
        ({"without": [float("nan")]}, "NaN"),
        ({"without": [0.1], "with_sample": [float("inf")]}, "infinite"),
        ({"without": [0.1], "rate": 1.0}, "rate must be in"),
        ({"without": [0.1], "rate": -0.1}, "rate must be in"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(ValueError, match=message):
        calibrate(n_references=1, **given)


def test_it_is_kept_with_the_index(tmp_path):
    assert read_calibration(tmp_path) is None
    found = calibrate([0.1, 0.2], [0.5], n_references=4, votes={"reach": 5.0})
    path = write_calibration(tmp_path, found)
    assert read_calibration(tmp_path) == found and json.loads(path.read_text())["votes"] == {"reach": 5.0}
    for content in ("", "{}", "[]", '{"threshold": 1}', path.read_text().replace("0.2", "NaN", 1)):
        path.write_text(content)
        with pytest.raises(DataError, match=r"calibration.json is damaged"):
            read_calibration(tmp_path)
