from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from small_models import noise, small_ast, small_kwt

from tome_audio.models import checkpoints
from tome_audio.models.checkpoints import load_checkpoint, save_checkpoint
from tome_audio.models.strict import CheckpointError

FEATURES = {"mean": -4.2677393, "std": 4.5689974, "n_frames": 64}


def test_ast_round_trip(tmp_path):
    model = small_ast(labels=["a", "b", "c", "d", "é"], mlp_width=50)
    path = save_checkpoint(tmp_path / "m.safetensors", model, features=FEATURES, extra={"mAP": 0.1})
    loaded, facts = load_checkpoint(path)
    x = noise(2, 64, 48)
    assert torch.equal(loaded(x), model(x))
    assert (facts.model, facts.labels, loaded.labels) == ("AST", tuple("abcdé"), tuple("abcdé"))
    assert (facts.features, facts.extra, facts.init_args) == (FEATURES, {"mAP": 0.1}, model.init_args)
    assert not loaded.training
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())
    assert [f.name for f in tmp_path.iterdir()] == ["m.safetensors"]


def test_kwt_round_trip_keeps_the_front_end(tmp_path):
    model = small_kwt()
    model.frontend.norm_mul.mul_(3.0)
    loaded, facts = load_checkpoint(save_checkpoint(tmp_path / "k.safetensors", model))
    x = noise(2, 1600) * 0.1
    assert torch.equal(loaded(x), model(x))
    assert (facts.labels, facts.features, facts.extra) == (None, None, {})


def test_dtype_is_kept(tmp_path):
    loaded, _ = load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", small_ast().bfloat16()))
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


def test_loading_leaves_the_random_state_alone(tmp_path):
    path = save_checkpoint(tmp_path / "m.safetensors", small_ast())
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_subclass_is_saved_as_the_model_it_is(tmp_path):
    model = small_ast()
    model.__class__ = type("Patched", (type(model),), {})
    assert load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", model))[1].model == "AST"


@pytest.mark.parametrize("step", ["save", "replace"])
def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, small_ast())
    before = path.read_bytes()

    def half_write(tensors, target, metadata):
        target.write_bytes(b"half a file")
        raise OSError("disk full")

    def refuse(self, target):
        assert self.parent == tmp_path
        assert self.stat().st_size > 1000
        raise OSError("disk full")

    if step == "save":
        monkeypatch.setattr(checkpoints, "save_file", half_write)
    else:
        monkeypatch.setattr(type(path), "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, small_ast(width=24))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_files_give_one_clear_error(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(path)
    save_checkpoint(path, small_ast())
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[:50], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
            load_checkpoint(path)


def test_foreign_and_misfitting_files_are_refused(tmp_path):
    path, model = tmp_path / "m.safetensors", small_kwt()
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not written by save_checkpoint"):
        load_checkpoint(path)
    facts = {"version": 1, "model": "KWT", "init_args": model.init_args, "labels": None, "features": None, "extra": {}}
    for change, message in [
        ({"version": 2}, "holds a KWT in format 2"),
        ({"model": "Unknown"}, "holds a Unknown in format 1"),
        ({}, "does not fit this KWT: missing keys: cls_token.*unexpected keys: a"),
        ({"init_args": {"colour": 1}}, "can not be built"),
    ]:
        save_file({"a": torch.zeros(1)}, path, metadata={"tome_audio": json.dumps({**facts, **change})})
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
    for text in ("{", "[]", "{}"):
        save_file({"a": torch.zeros(1)}, path, metadata={"tome_audio": text})
        with pytest.raises(CheckpointError, match="is damaged"):
            load_checkpoint(path)


def test_what_can_not_be_saved_is_refused_before_writing(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="a Linear can not be saved as a checkpoint; known are AST, KWT"):
        save_checkpoint(path, torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="2 labels given for a model of 5 classes"):
        save_checkpoint(path, small_ast(), labels=["a", "b"])
    with pytest.raises(ValueError, match="features must hold mean, std and n_frames"):
        save_checkpoint(path, small_ast(), features={"mean": 0.0})
    with pytest.raises(ValueError, match="keeps JSON only"):
        save_checkpoint(path, small_ast(), extra={"x": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
