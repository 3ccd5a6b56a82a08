from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.data.clips import DataError
from tome_audio.data.teacher_arrays import audioset_key, read_teacher_array
from tome_audio.data.teacher_logits import (
    TeacherLogits,
    TeacherLogitsWriter,
    average_logits,
    read_teacher_logits,
)

LABELS = ["bell", "dog", 'é, "horn"']
RUN = {"models": [{"name": "m.safetensors", "sha256": "00"}], "settings": {"average": "logits"}}


def writer(folder, labels=LABELS, **changes):
    return TeacherLogitsWriter(folder, labels, **{**RUN, "shard_size": 4, **changes})


def logits_of(n, seed=0):
    return torch.randn(n, len(LABELS), generator=torch.Generator().manual_seed(seed))


def test_round_trip(tmp_path):
    ids, logits = [f"a/{i}" for i in range(10)] + ["b/ü"], logits_of(11)
    with writer(tmp_path / "deep" / "t", versions={"torch": "x"}) as store:
        store.add(ids[:3], logits[:3])
        store.add(ids[3:], logits[3:])
    assert sorted(p.name for p in (tmp_path / "deep" / "t").iterdir()) == [
        *(f"logits-0000{i}.npz" for i in range(3)), "teacher.json",
    ]  # fmt: skip
    found = read_teacher_logits(tmp_path / "deep" / "t", LABELS)
    assert found.labels == tuple(LABELS) and found.facts["versions"] == {"torch": "x"}
    assert found.facts["models"] == RUN["models"] and found.facts["settings"] == RUN["settings"]
    wanted = ["b/ü", "nobody", "a/7", "a/0", "a/7"]
    batch = found.lookup(wanted)
    assert batch.known.tolist() == [True, False, True, True, True] and (batch.logits[1] == 0).all()
    assert torch.equal(batch.logits[batch.known], logits[[10, 7, 0, 7]])
    assert found.missing(wanted) == ["nobody"]
    none = found.lookup(["x", "y"])
    assert not none.known.any() and none.logits.shape == (2, 3)
    assert pickle.loads(pickle.dumps(found)).lookup(wanted).known.tolist() == batch.known.tolist()


@given(stops=st.lists(st.integers(0, 12), max_size=4), shard_size=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_a_run_that_stops_anywhere_ends_with_the_same_logits(tmp_path_factory, stops, shard_size):
    folder, ids, logits = tmp_path_factory.mktemp("t"), [str(i) for i in range(12)], logits_of(12)
    for stop in [*stops, 12]:
        store = writer(folder, shard_size=shard_size)
        left = [i for i in range(12) if ids[i] not in store.done]
        for i in left[:stop]:
            store.add([ids[i]], logits[i : i + 1])
        if stop == 12:
            store.flush()  # the runs before were killed: what they held in memory is lost
    assert torch.equal(read_teacher_logits(folder).lookup(ids).logits, logits)


def test_leavings_of_a_killed_run_are_removed(tmp_path):
    with writer(tmp_path) as store:
        store.add(["a"], logits_of(1))
    (tmp_path / ".logits-00001.npz.0123.part").write_bytes(b"half a file")
    with writer(tmp_path) as store:
        assert store.done == {"a"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logits-00000.npz", "teacher.json"]


def test_an_error_in_between_keeps_what_was_there(tmp_path):
    with pytest.raises(KeyboardInterrupt), writer(tmp_path) as store:
        store.add(["a"], logits_of(1))
        raise KeyboardInterrupt
    assert read_teacher_logits(tmp_path).missing(["a"]) == []


def test_a_failed_write_leaves_nothing_half_written(tmp_path, monkeypatch):
    store = writer(tmp_path)

    def half_write(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", half_write)
    with pytest.raises(OSError, match="disk full"):
        store.add(list("abcd"), logits_of(4))
    assert [p.name for p in tmp_path.iterdir()] == ["teacher.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": [{"name": "m.safetensors", "sha256": "11"}]}, "models were .*'00'.*, now .*'11'.*another folder"),
        ({"settings": {"average": "logits", "x": 1}}, "settings were"),
        ({"labels": LABELS[:2]}, 'labels differ: only .* has é, "horn"'),
        ({"labels": [*LABELS, "cat"]}, "only this run has cat"),
        ({"labels": [LABELS[1], LABELS[0], LABELS[2]]}, "class 0 is 'bell' in .* and 'dog' in this run"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
    ],
)
def test_another_run_is_not_mixed_in(tmp_path, change, message):
    with writer(tmp_path) as store:
        store.add(["a"], logits_of(1))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message):
        writer(tmp_path, **change)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_files_that_changed_under_their_names_are_refused(tmp_path):
    paths = {name: tmp_path / f"{name}.wav" for name in "abcd"}
    for name, path in paths.items():
        path.write_bytes(name.encode() * 1000)
    with writer(tmp_path / "t", shard_size=2) as store:
        store.add(list("abc"), logits_of(3), [paths[name] for name in "abc"])
        store.add(["no file"], logits_of(1))
    paths["no file"] = paths["d"]
    writer(tmp_path / "t").check_clips(paths)
    paths["c"].unlink()
    moved = {name: path.rename(path.with_suffix(".moved")) for name, path in paths.items() if name in "ab"}
    writer(tmp_path / "t").check_clips({**paths, **moved})  # it is the content that counts, not the place
    moved["b"].write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match=r"other files: 1 of 5 clips .*b\.moved: give the data they were made from"):
        writer(tmp_path / "t").check_clips({**paths, **moved})
    moved["b"].write_bytes(b"b" * 1001)
    with pytest.raises(DataError, match="holds logits of other files"):
        writer(tmp_path / "t").check_clips({**paths, **moved})


def test_logits_that_were_stored_without_marks_go_on(tmp_path):
    with writer(tmp_path) as store:
        store.add(["a"], logits_of(1))
    np.savez(tmp_path / "logits-00000.npz", ids=np.array(["a"]), logits=logits_of(1).numpy())
    store = writer(tmp_path)
    store.check_clips({"a": tmp_path / "teacher.json"})
    assert store.done == {"a"} and read_teacher_logits(tmp_path).missing(["a"]) == []


def test_the_student_must_have_the_teachers_labels_in_order():
    teacher = TeacherLogits(("a", "b", "c"), {}, np.zeros((0, 3), np.float32))
    teacher.check_labels(["a", "b", "c"])
    for labels, message in (
        (["a", "c", "b"], "class 1 is 'b' in the teacher's logits and 'c' in the student, class 2"),
        (["a", "b", "d"], "only the teacher's logits has c; only the student has d"),
        (["a", "a", "b", "c"], "the teacher's logits has 3 labels, the student 4"),
    ):
        with pytest.raises(DataError, match=message):
            teacher.check_labels(labels)


@pytest.mark.parametrize(
    ("ids", "logits", "message"),
    [
        (["a"], torch.zeros(1, 2), r"must be \(1, 3\), got \(1, 2\)"),
        (["a"], torch.zeros(2, 3), r"must be \(1, 3\), got \(2, 3\)"),
        (["a", "a"], torch.zeros(2, 3), "a has logits already"),
        (["a"], torch.full((1, 3), torch.nan), "logits of a are NaN or infinite"),
    ],
)
def test_bad_logits_are_refused(tmp_path, ids, logits, message):
    with pytest.raises(DataError, match=message):
        writer(tmp_path).add(ids, logits)


def test_damage_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no teacher.json"):
        read_teacher_logits(tmp_path)
    store = writer(tmp_path)
    with pytest.raises(DataError, match="holds no logits yet"):
        read_teacher_logits(tmp_path)
    store.add(list("abcd"), logits_of(4))
    shard = tmp_path / "logits-00000.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    for attempt in (lambda: read_teacher_logits(tmp_path), lambda: writer(tmp_path)):
        with pytest.raises(DataError, match=r"logits-00000.npz is damaged .*delete it"):
            attempt()
    shard.write_bytes(whole)
    shard.with_name("logits-00001.npz").write_bytes(whole)
    with pytest.raises(DataError, match="holds a twice"):
        read_teacher_logits(tmp_path)
    (tmp_path / "teacher.json").write_text('{"version": 9, "labels": []}')
    with pytest.raises(DataError, match="format 9"):
        read_teacher_logits(tmp_path)
    (tmp_path / "teacher.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_teacher_logits(tmp_path)


def test_no_pickle_is_ever_read(tmp_path):
    with writer(tmp_path) as store:
        store.add(["a"], logits_of(1))
    np.savez(tmp_path / "logits-00000.npz", ids=np.array(["a"], dtype=object), logits=np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"is damaged .*allow_pickle"):
        read_teacher_logits(tmp_path)


def test_the_mean_of_logits_is_the_geometric_mean_of_softened_answers():
    teachers = [3 * torch.randn(5, 4, dtype=torch.float64) for _ in range(3)]
    for temperature in (1.0, 4.0):
        softened = torch.stack([(logits / temperature).softmax(1) for logits in teachers])
        geometric = softened.log().mean(0).exp()
        found = (average_logits(teachers) / temperature).softmax(1)
        assert torch.allclose(found.double(), geometric / geometric.sum(1, keepdim=True), atol=1e-6)
    with pytest.raises(ValueError, match="of one shape"):
        average_logits([torch.zeros(2, 3), torch.zeros(2, 4)])


# Arrays made elsewhere

INDEX = {"abc_defghi1": 2, "abc_defghi2": 0, "abc_defghi3": -1}


def write_index(path, index=INDEX):
    if path.suffix == ".json":
        path.write_text(json.dumps(index))
    elif path.suffix == ".csv":
        path.write_text("\ufeffid,row\n" + "".join(f"{name},{row}\n" for name, row in index.items()), "utf-8")
    else:
        path.write_bytes(pickle.dumps(index))
    return path


@pytest.mark.parametrize("suffix", [".json", ".csv", ".pkl"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_with_an_index(tmp_path, suffix, dtype):
    values = np.arange(9).reshape(3, 3).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    found = read_teacher_array(tmp_path / "a.npy", write_index(tmp_path / f"i{suffix}"), LABELS, audioset_key)
    batch = found.lookup(["eval/Yabc_defghi1", "Yabc_defghi2.wav", "Yabc_defghi3", "abc_defghi1"])
    assert batch.known.tolist() == [True, True, False, True]
    assert batch.logits.tolist() == [[6, 7, 8], [0, 1, 2], [0, 0, 0], [6, 7, 8]]
    assert found.missing(["Yabc_defghi3", "Yabc_defghi1"]) == ["Yabc_defghi3"]
    with pytest.raises(DataError, match="class 0"):
        found.check_labels(LABELS[::-1])


def test_a_pickle_cannot_run_anything(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_here"), "w"))

    np.save(tmp_path / "a.npy", np.zeros((1, 3)))
    (tmp_path / "i.pkl").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(DataError, match=r"no plain dict .*it holds .*open.*json.dump"):
        read_teacher_array(tmp_path / "a.npy", tmp_path / "i.pkl", LABELS)
    assert not (tmp_path / "was_here").exists()
    (tmp_path / "i.pkl").write_bytes(pickle.dumps({"a": np.int64(0)}))
    with pytest.raises(DataError, match=r"it holds numpy.*json.dump"):
        read_teacher_array(tmp_path / "a.npy", tmp_path / "i.pkl", LABELS)


@pytest.mark.parametrize(
    ("array", "name", "index", "message"),
    [
        (np.zeros((2, 4)), "i.json", {"a": 0}, "has 4 columns, but 3 labels"),
        (np.zeros((2, 3)), "i.json", {"a": 2}, "'a' is at row 2, but the array has rows 0 to 1"),
        (np.zeros((2, 3)), "i.json", {"a": -2}, "'a' is at row -2"),
        (np.zeros((2, 3)), "i.json", {"a": True}, "'a' is at row True"),
        (np.zeros((2, 3)), "i.json", {"a": 0.5}, "'a' is at row 0.5"),
        (np.zeros((2, 3)), "i.json", [], "must hold {name: row}"),
        (np.zeros((2, 3)), "i.txt", {"a": 0}, r"must be .json"),
        (np.zeros(3), "i.json", {"a": 0}, "one float array"),
        (np.zeros((2, 3), int), "i.json", {"a": 0}, "one float array"),
        (np.zeros((2, 3), object), "i.json", {"a": 0}, "not a readable .npy"),
    ],
)
def test_arrays_and_indices_that_do_not_fit(tmp_path, array, name, index, message):
    np.save(tmp_path / "a.npy", array)
    (tmp_path / name).write_text(json.dumps(index))
    with pytest.raises(DataError, match=message):
        read_teacher_array(tmp_path / "a.npy", tmp_path / name, LABELS)


@pytest.mark.parametrize(
    ("name", "content"), [("i.json", b"{"), ("i.csv", b"name,row\na,1\n"), ("i.pkl", b"\x80\x04}")]
)
def test_damaged_indices_are_named(tmp_path, name, content):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        read_teacher_array(tmp_path / "a.npy", tmp_path / name, LABELS)
    with pytest.raises(DataError, match=r"gone.npy is not a readable"):
        read_teacher_array(tmp_path / "gone.npy", tmp_path / name, LABELS)
