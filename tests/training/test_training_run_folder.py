from __future__ import annotations

import pytest
import torch

from tome_audio.training import run_folder
from tome_audio.training.run_folder import RunFolder, read_checkpoint, read_weights


def save(folder: RunFolder, step: int, value: float = 0.0):
    return folder.save(step // 5, step, {"model": {"w": torch.full((3,), value)}}, {"step": step})


def names(folder: RunFolder):
    return [path.name for path in folder.found()]


def test_the_newest_are_kept_in_order_and_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run", keep=2)
    assert folder.found() == []
    for step in (8, 9, 10, 11):
        save(folder, step, step)
    assert names(folder) == ["epoch-0002-step-000000010", "epoch-0002-step-000000011"]
    weights, state = read_checkpoint(folder.found()[-1])
    assert weights["model"]["w"].tolist() == [11.0] * 3 and state == {"step": 11}


def test_a_checkpoint_of_the_same_place_stays(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder, 5, 1.0)
    path = save(folder, 5, 2.0)
    assert len(folder.found()) == 1 and read_checkpoint(path)[0]["model"]["w"][0] == 1.0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["weights", "state", "before the renaming"])
def test_a_save_that_is_cut_short_leaves_the_checkpoint_before(tmp_path, monkeypatch, moment):
    folder = RunFolder(tmp_path, keep=1)
    save(folder, 5, 1.0)

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "weights":
            patched.setattr(run_folder, "save_file", lambda tensors, path: path.write_bytes(b"half") and die())
        elif moment == "state":
            patched.setattr(torch, "save", lambda state, path: path.write_bytes(b"half") and die())
        else:
            patched.setattr("pathlib.Path.rename", die)
        with pytest.raises(Killed):
            save(folder, 6, 2.0)
    assert names(folder) == ["epoch-0001-step-000000005"]
    assert read_checkpoint(folder.found()[0])[0]["model"]["w"][0] == 1.0
    assert len(list(folder.checkpoints.iterdir())) == 2  # what was begun is there, under a hidden name
    save(folder, 7, 3.0)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["epoch-0001-step-000000007"]


def test_weights_are_replaced_in_one_go(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "new")
    path = folder.write_weights("best", {"w": torch.ones(2)})

    def half(tensors, path):
        path.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(run_folder, "save_file", half)
    with pytest.raises(Killed):
        folder.write_weights("best", {"w": torch.zeros(2)})
    assert read_weights(path)["w"].tolist() == [1, 1] and list(path.parent.iterdir()) == [path]
    (path.parent / ".part-1-best.safetensors").write_bytes(b"left by a run that was killed")
    monkeypatch.undo()
    save(RunFolder(path.parent), 5)
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.safetensors", "checkpoints"]


def test_tied_weights_are_saved(tmp_path):
    shared = torch.arange(4.0)
    path = RunFolder(tmp_path).write_weights("last", {"a": shared, "b": shared, "c": shared.view(2, 2).T})
    assert read_weights(path)["b"].tolist() == [0, 1, 2, 3] and read_weights(path)["c"].tolist() == [[0, 2], [1, 3]]


def test_damage_is_named(tmp_path):
    path = save(RunFolder(tmp_path), 5)
    (path / "state.pt").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"step-000000005 is no readable checkpoint .*delete this folder to go on from"
    ):
        read_checkpoint(path)
    with pytest.raises(ValueError, match="is no readable weights file"):
        read_weights(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="at least one checkpoint must be kept, got keep=0"):
        RunFolder(tmp_path, keep=0)
