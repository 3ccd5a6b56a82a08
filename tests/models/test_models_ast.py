from __future__ import annotations

import copy
import pickle

import pytest
import torch
from small_models import noise, randomise_, small_ast

from tome_audio.models import AST
from tome_audio.models.pos_embed import from_audioset


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({}, 86.594),
        ({"fstride": 12}, 86.439),
        ({"n_classes": 50, "n_frames": 512}, 85.757),
        ({"n_classes": 35, "n_frames": 128}, 85.395),
    ],
)
def test_parameter_counts_are_the_published_ones(changes, millions):
    with torch.device("meta"):
        model = AST("base384", **changes)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("variant", "width", "heads"), [("tiny224", 192, 3), ("small224", 384, 6), ("base224", 768, 12)]
)
def test_variants(variant, width, heads):
    with torch.device("meta"):
        model = AST(variant)
    assert (model.v.embed_dim, len(model.v.blocks), model.v.blocks[0].attn.num_heads) == (width, 12, heads)
    assert model.n_tokens == 2 + 12 * 101


def test_state_dict_has_the_official_names():
    keys = set(small_ast(depth=1).state_dict())
    block = {
        f"v.blocks.0.{m}.{p}"
        for m in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for p in ("weight", "bias")
    }
    rest = {
        f"{m}.{p}" for m in ("v.patch_embed.proj", "v.norm", "mlp_head.0", "mlp_head.1") for p in ("weight", "bias")
    }
    assert keys == block | rest | {"v.cls_token", "v.dist_token", "v.pos_embed"}


def test_epsilons_are_those_of_the_original():
    model = small_ast()
    norms = [model.v.norm, model.v.blocks[0].norm1, model.v.blocks[1].norm2]
    assert {norm.eps for norm in norms} == {1e-6}
    assert model.mlp_head[0].eps == 1e-5


def test_head_reads_the_mean_of_rows_0_and_1():
    model, x = small_ast(), noise(2, 64, 48)
    tokens = model.forward_features(x)
    assert tokens.shape == (2, model.n_tokens, 48)
    torch.testing.assert_close(model(x), model.mlp_head(tokens[:, :2].mean(dim=1)))
    changed = tokens.clone()
    changed[:, 2:] = 0
    assert torch.equal(model.forward_head(changed), model.forward_head(tokens))


def test_custom_encoder_sizes():
    model = small_ast(mlp_width=49, patch=(8, 16), tstride=7)
    assert model.v.blocks[0].mlp.fc1.out_features == 49
    assert model.grid == ((48 - 8) // 12 + 1, (64 - 16) // 7 + 1)
    assert AST(None, width=192, depth=1).v.blocks[0].attn.num_heads == 3
    assert [b.drop_path1.__class__.__name__ for b in small_ast(drop_path=0.1).v.blocks] == ["Identity", "DropPath"]


@pytest.mark.parametrize("shape", [(2, 63, 48), (2, 64, 47), (2, 48, 64), (64, 48), (2, 1, 64, 48)])
def test_wrong_input_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"expects \(batch, 64 frames, 48 mel bins\)") as error:
        small_ast()(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"variant": "huge"}, "unknown AST variant 'huge'; choose one of tiny224"),
        ({"variant": "tiny224", "depth": 3}, "fixes width, depth and n_heads"),
        ({"variant": None, "width": 64}, "needs width and depth"),
        ({"variant": None, "width": 64, "depth": 1, "n_heads": 5}, "choose n_heads that divides it"),
        ({"variant": None, "width": 64, "depth": 1, "n_frames": 8}, "smaller than one 16x16 patch"),
        ({"variant": None, "width": 64, "depth": 1, "n_classes": 2, "labels": ["a"]}, "1 labels given for n_classes=2"),
        (
            {"variant": None, "width": 64, "depth": 1, "pool": "max"},
            "unknown pool 'max'; choose one of prefix, token, avg",
        ),
    ],
)
def test_bad_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        AST(**args)


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients():
    plain, saving = small_ast().train(), small_ast().train()
    saving.set_grad_checkpointing()
    calls = []
    saving.v.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    x = noise(2, 64, 48)
    for model in (plain, saving):
        model(x).square().sum().backward()
    assert len(calls) == 2
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ("pool", "read"),
    [("prefix", lambda x: (x[:, 0] + x[:, 1]) / 2), ("token", lambda x: x[:, 0]), ("avg", lambda x: x[:, 2:].mean(1))],
)
def test_the_head_reads_what_pool_names(pool, read):
    model, x = small_ast(pool=pool), noise(2, 64, 48)
    torch.testing.assert_close(model(x), model.mlp_head(read(model.forward_features(x))))


def test_the_mean_of_patches_leaves_out_those_that_see_only_padding():
    model, x = small_ast(pool="avg"), noise(1, 64, 48)
    n_frames = 25  # columns begin at frames 0, 10, 20, 30 and 40: three of five see the clip
    tokens = model.forward_features(x, torch.tensor([n_frames]))[:, 2:].unflatten(1, model.grid)
    wanted = model.mlp_head(tokens[:, :, :3].flatten(1, 2).mean(1))
    torch.testing.assert_close(model(x, torch.tensor([n_frames])), wanted)


def test_compiles_in_one_graph():
    model, x = small_ast(), noise(2, 64, 48)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))


def test_deepcopy_and_pickle_keep_the_outputs():
    model, x = small_ast(labels=list("abcde")), noise(1, 64, 48)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert (twin.labels, twin.init_args) == (model.labels, model.init_args)


def test_from_audioset_keeps_the_encoder_and_fits_the_grid():
    sizes = {"width": 8, "depth": 1, "n_heads": 2, "n_classes": 5}
    source = randomise_(AST(None, **sizes))
    model = AST.from_audioset(source, n_classes=3, n_frames=512, labels=["x", "y", "z"])
    assert (model.grid, model.n_classes, model.labels) == ((12, 50), 3, ("x", "y", "z"))
    assert torch.equal(model.v.pos_embed, from_audioset(source.v.pos_embed, (12, 50)))
    assert torch.equal(model.v.blocks[0].attn.qkv.weight, source.v.blocks[0].attn.qkv.weight)
    assert model(noise(1, 512, 128)).shape == (1, 3)
    model.v.cls_token.data.zero_()
    assert source.v.cls_token.abs().sum() > 0


def test_from_audioset_refuses_other_grids():
    with pytest.raises(ValueError, match="12x101 grid"):
        AST.from_audioset(small_ast(), n_classes=3)
