import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tome_audio.merge import Schedule, clamp_amounts, expand_schedule
from tome_audio.merge.schedule_file import read_schedule

COUNTS = st.lists(st.integers(0, 60), max_size=4)


@given(
    COUNTS, COUNTS, st.sampled_from(["adjacent", "bipartite"]), st.none() | st.integers(4, 9), st.none() | st.just(99)
)
def test_a_file_gives_back_the_schedule(tmp_path_factory, blocks, before, matching, depth, n_tokens):
    path = tmp_path_factory.mktemp("schedule") / "s.json"
    schedule = Schedule(blocks, before, matching, depth, n_tokens)
    schedule.save(path, {"model": "Größe", "divergence": 0.5, "versions": {"torch": "2"}})
    assert Schedule.load(path) == schedule
    assert read_schedule(path)[1] == {"model": "Größe", "divergence": 0.5, "versions": {"torch": "2"}}


def test_names_of_blocks_are_in_the_file_where_there_are_any(tmp_path):
    path, schedule = tmp_path / "s.json", Schedule((3, 2, 1), matchings=("", "adjacent"), metrics=("hidden",))
    schedule.save(path)
    assert Schedule.load(path) == schedule and json.loads(path.read_text())["metrics"] == ["hidden"]
    Schedule((3, 2, 1)).save(path)
    assert Schedule.load(path) == Schedule((3, 2, 1)) and "metrics" not in json.loads(path.read_text())
    path.write_text(changed(metrics="hidden"))
    with pytest.raises(ValueError, match="damaged schedule: metrics="):
        Schedule.load(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "s.json"
    Schedule((1,)).save(path)
    with pytest.raises(TypeError):
        Schedule((2,)).save(path, {"model": object()})
    assert Schedule.load(path) == Schedule((1,)) and [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_a_schedule_insists_on_its_model():
    schedule = Schedule((3, 2), (5,), depth=4, n_tokens=21)
    assert clamp_amounts(schedule, 4, 21, 1).tokens(21) == (16, 13, 11, 11, 11)
    with pytest.raises(ValueError, match="made for a model of 4 blocks, but this one has 12"):
        expand_schedule(schedule, 12)
    with pytest.raises(ValueError, match="made for 21 tokens, but 99 enter"):
        clamp_amounts(schedule, 4, 99, 1)


@pytest.mark.parametrize("field", ["depth", "n_tokens"])
@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "12"])
def test_bad_sizes_are_named(field, bad):
    with pytest.raises(ValueError, match=f"{field}=.* must be a whole number >= 1"):
        Schedule((), **{field: bad})


def changed(**changes):
    whole = {"format": "tome_audio schedule", "version": 1, "blocks": [1], "before": [], "before_matching": "adjacent"}
    return json.dumps({k: v for k, v in {**whole, "depth": 3, "n_tokens": 9, **changes}.items() if v != "leave out"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        ("[1, 2]", "is not a schedule"),
        ('{"blocks": [1]}', "is not a schedule"),
        (changed(version=2), "version 2, but this tome_audio knows 1"),
        (changed(blocks="leave out"), "damaged schedule: it has no blocks"),
        (changed(blocks=[-1]), "damaged schedule: r="),
        (changed(blocks=None), "damaged schedule"),
        (changed(before_matching="global"), "damaged schedule: before_matching"),
        (changed(depth="12"), "damaged schedule: depth"),
    ],
)
def test_what_is_no_schedule_is_named(tmp_path, text, message):
    path = tmp_path / "s.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as error:
        Schedule.load(path)
    assert str(path) in str(error.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json cannot be read as a schedule: No such file"):
        Schedule.load(tmp_path / "none.json")
