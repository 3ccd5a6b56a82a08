from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import noise, randomise_

from tome_audio.models import AST, CheckpointError, load_official
from tome_audio.models.official import strides_from_name


def tiny(n_classes: int = 4) -> AST:
    with torch.device("meta"):  # spares the initialisation
        model = AST("tiny224", n_classes=n_classes, n_frames=128)
    return model.to_empty(device="cpu")


@pytest.fixture(scope="module")
def model() -> AST:
    return randomise_(tiny(), std=0.05)


def official(model: AST, prefix: str = "module.") -> dict[str, torch.Tensor]:
    """Make a state dict as the original code saves it: DataParallel's prefix and the dead ImageNet heads."""
    weights = dict(model.state_dict())
    for head in ("head", "head_dist"):
        weights[f"v.{head}.weight"], weights[f"v.{head}.bias"] = torch.zeros(1000, 192), torch.zeros(1000)
    return {prefix + key: value for key, value in weights.items()}


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_file_round_trip_infers_everything(model, tmp_path, prefix):
    path = tmp_path / "speechcommands_10_10_0.9812.pth"
    torch.save(official(model, prefix), path)
    loaded = load_official(path)
    assert (loaded.n_classes, loaded.n_frames, loaded.grid, loaded.training) == (4, 128, (12, 12), False)
    assert loaded.init_args["variant"] == "tiny224"
    x = noise(2, 128, 128)
    assert torch.equal(loaded(x), model(x))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_fills_a_given_model_and_does_not_share_memory(model):
    weights = official(model)
    target = tiny()
    assert load_official(weights, target) is target
    built = load_official(weights, fstride=10, tstride=10)
    for loaded in (target, built):
        assert torch.equal(loaded.mlp_head[1].weight, model.mlp_head[1].weight)
        assert loaded.mlp_head[1].weight.data_ptr() != model.mlp_head[1].weight.data_ptr()


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("audioset_10_10_0.4593.pth", (10, 10)), ("audioset_12_12_0.4467.pth", (12, 12)),
        ("audioset_bal_10_10_0.3499.pth", (10, 10)), ("speechcommands_10_10_0.9812.pth", (10, 10)),
        ("audioset_16_16_0.4422.pth", (16, 16)), ("best_audio_model.pth", None), ("run_3_4.pth", None),
    ],
)  # fmt: skip
def test_strides_are_read_from_official_names(name, strides):
    assert strides_from_name(name) == strides


def changed(model, **changes):
    weights = official(model)
    for key, value in changes.items():
        weights["module." + key.replace("__", ".")] = value
    return weights


def test_missing_key_is_named(model):
    weights = official(model)
    del weights["module.v.blocks.3.norm1.bias"]
    with pytest.raises(CheckpointError, match=r"missing keys: v\.blocks\.3\.norm1\.bias"):
        load_official(weights, fstride=10, tstride=10)
    with pytest.raises(CheckpointError, match=r"no official AST checkpoint: missing keys: v\.pos_embed"):
        load_official({"module.v.cls_token": torch.zeros(1)}, fstride=10, tstride=10)


@pytest.mark.parametrize("key", ["v__extra", "v__head__scale", "v__header", "v__head_dist__0__weight"])
def test_only_the_dead_heads_may_be_dropped(model, key):
    with pytest.raises(CheckpointError, match=f"unexpected keys: {key.replace('__', '.')}"):
        load_official(changed(model, **{key: torch.zeros(1)}), fstride=10, tstride=10)


def test_wrong_shape_is_named(model):
    weights = changed(model, v__norm__weight=torch.zeros(191))
    with pytest.raises(CheckpointError, match=r"v\.norm\.weight is \(191,\), needs \(192,\)"):
        load_official(weights, fstride=10, tstride=10)
    with pytest.raises(CheckpointError, match=r"mlp_head\.1\.weight is \(4, 192\), needs \(7, 192\)"):
        load_official(official(model), tiny(n_classes=7))


def test_strides_must_be_known_and_fit(model):
    weights = official(model)
    with pytest.raises(CheckpointError, match="pass fstride and tstride"):
        load_official(weights)
    with pytest.raises(CheckpointError, match="144 patches, but strides 10/10 with 128 mel bins and 1024 frames"):
        load_official(weights, fstride=10, tstride=10, n_frames=1024)
    with pytest.raises(CheckpointError, match="144 patches, but strides 12/10"):
        load_official(weights, fstride=12, tstride=10)
    with pytest.raises(CheckpointError, match="fits 93 to 99 frames at tstride 7; pass n_frames"):
        load_official(weights, fstride=10, tstride=7)
    assert load_official(weights, fstride=10, tstride=7, n_frames=95).grid == (12, 12)


def test_unknown_size_asks_for_a_model(model):
    weights = {key: value for key, value in official(model).items() if ".blocks.11." not in key}
    with pytest.raises(CheckpointError, match="width 192 and depth 11, which is no published AST"):
        load_official(weights, fstride=10, tstride=10)


class Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_file_never_runs(tmp_path):
    path, marker = tmp_path / "audioset_10_10_0.4593.pth", tmp_path / "ran"
    torch.save({"module.v.cls_token": Code(marker)}, path)
    with pytest.raises(CheckpointError, match="no plain state dict: it is damaged, or holds code"):
        load_official(path)
    assert not marker.exists()


def test_damaged_files_give_one_clear_error(model, tmp_path):
    path = tmp_path / "audioset_10_10_0.4593.pth"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_official(path)
    torch.save(official(model), path)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"audioset_10_10_0\.4593\.pth"):
            load_official(path)


def test_other_objects_are_refused(model, tmp_path):
    with pytest.raises(CheckpointError, match="epoch are none"):
        load_official({"epoch": 3, "v.cls_token": torch.zeros(1)})
    path = tmp_path / "x.pth"
    torch.save([torch.zeros(2)], path)
    with pytest.raises(CheckpointError, match="names and tensors"):
        load_official(path)
