"""The rivals of the benchmarks: exact at r = 0, against naive references, and on the same token counts as merging."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from fakes import CASES, logits
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tome_audio.merge import tokens_per_layer
from tome_audio.models import AST, KWT
from tome_audio.models.huggingface import to_huggingface
from tome_audio.patch import apply_patch, describe
from tome_audio.patch.recording import add_recorder, record
from tome_audio.patch.registry import UnsupportedModelError, find_encoders

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from rivals import METHODS, tokens_and_macs
from rivals.class_attention import class_attention, n_class_tokens
from rivals.dropping import DroppingBlock, random_drop

DROPPING = ("topk-class", "random-drop")
POOLING = ("vit_avgpool", "vit_avgpool_class_token", "vit_attention_pool", "ast_avgpool")
READING = tuple(name for name in CASES if name not in POOLING)
SCHEDULE = [3, 0, 2]
NAMED = pytest.mark.parametrize("name", READING)
ONE_PER_FAMILY = pytest.mark.parametrize("name", ["vit_layerscale_qknorm", "ast", "huggingface_sdpa", "kwt"])


def build(name, batch=2):
    case = CASES[name]
    return case.build().eval(), torch.randn(batch, *case.input_shape, generator=torch.Generator().manual_seed(1))


def run(model, x):
    with torch.no_grad():
        return logits(model(x))


def sized_rows(model, x):
    """Return the number of tokens that leaves each dropping block."""
    counts = []
    blocks = [module for module in model.modules() if isinstance(module, DroppingBlock)]
    hooks = [block.register_forward_hook(lambda module, args, out: counts.append(out.shape[1])) for block in blocks]
    run(model, x)
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n in CASES for m in METHODS if n not in POOLING or m not in DROPPING]
)
def test_nothing_is_reduced_at_r_0(name, method):
    model, x = build(name)
    expected = run(model, x)
    assert torch.allclose(run(METHODS[method](model, 0), x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@ONE_PER_FAMILY
def test_the_given_model_stays_as_it_is(name, method):
    model, x = build(name)
    before, weights = run(model, x), copy.deepcopy(model.state_dict())
    names = [type(module) for module in model.modules()]
    own = METHODS[method](model, SCHEDULE)
    run(own, x)
    for parameter in own.parameters():
        nn.init.zeros_(parameter)
    assert [type(module) for module in model.modules()] == names
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(run(model, x), before)


@pytest.mark.parametrize("name", CASES)
def test_unfused_merging_equals_fused(name):
    model, x = build(name)
    fused = run(apply_patch(copy.deepcopy(model), SCHEDULE, prefix_only=False), x)
    assert not torch.allclose(fused, run(model, x), atol=1e-4)
    unfused = METHODS["merged-unfused"](model, SCHEDULE)
    assert torch.allclose(run(unfused, x), fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_unfused_merging_calls_no_fused_kernel(name, monkeypatch):
    model, x = build(name)
    unfused = METHODS["merged-unfused"](model, SCHEDULE)
    called = []
    kernel = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: (called.append(1), kernel(*args, **kwargs))[1],
    )
    run(unfused, x)
    in_blocks, called[:] = len(called), []
    run(model, x)
    # The attention of a pooling head is none of the blocks'; Hugging Face's eager model never calls the kernel.
    assert in_blocks == (1 if name == "vit_attention_pool" else 0)
    assert len(called) > in_blocks or name == "huggingface_eager"


@pytest.mark.parametrize("method", METHODS)
@NAMED
def test_tokens_and_macs(name, method):
    model, x = build(name)
    case, before = CASES[name], run(model, x)
    tokens, macs = tokens_and_macs(method, model, SCHEDULE, case.n_tokens)
    full, full_macs = tokens_and_macs("unpatched", model, SCHEDULE, case.n_tokens)
    assert full == (case.n_tokens,) * 4
    if method == "unpatched":
        return
    every, every_macs = tokens_and_macs("merged-unfused", model, SCHEDULE, case.n_tokens)
    assert every == tokens_per_layer(SCHEDULE, case.n_tokens, case.n_prefix) and macs <= every_macs < full_macs
    assert tokens[:-1] == every[:-1]
    if method in DROPPING:
        assert (tokens, macs) == (every, every_macs)
        assert sized_rows(METHODS[method](model, SCHEDULE), x) == list(tokens[1:])
    else:
        report = describe(METHODS[method](model, SCHEDULE), case.n_tokens)
        assert (tokens, macs) == (report.tokens, sum(report.macs))
        assert not (report.prefix_only and method == "merged-unfused")
    assert torch.equal(run(model, x), before)


@pytest.mark.parametrize("method", DROPPING)
def test_dropping_clamps_like_merging(method):
    model, x = build("vit")
    wanted = list(tokens_per_layer([50, 50, 50], 17, 1))
    assert list(tokens_and_macs(method, model, 50, 17)[0]) == wanted == [17, 9, 5, 3]
    assert sized_rows(METHODS[method](model, 50), x) == wanted[1:]


@pytest.mark.parametrize("method", DROPPING)
@NAMED
def test_dropping_keeps_prefix_rows_and_order(name, method):
    """The rows that reach the feed-forward part are rows of the attended tokens: prefix first, rising, none twice."""
    model, _ = build(name)
    case = CASES[name]
    dropped = METHODS[method](model, 3)
    block = next(module for module in dropped.modules() if isinstance(module, DroppingBlock))
    width = block.adapter.projection(block.block, "key").in_features
    x = torch.randn(2, case.n_tokens, width)
    with torch.no_grad():
        left = block.attend_and_drop(3, x)
        attended = block.adapter.attend(block.block, x, None)
    assert left.shape == (2, case.n_tokens - 3, width)
    same = torch.isclose(left[:, :, None], attended[:, None], atol=1e-6).all(-1)
    assert (same.sum(-1) == 1).all()
    rows = same.int().argmax(-1)
    assert rows[:, : case.n_prefix].tolist() == [list(range(case.n_prefix))] * 2
    assert (rows.diff(dim=1) > 0).all()
    if method == "random-drop":
        assert torch.equal(rows[0], rows[1]), "each clip loses the same tokens"


@pytest.mark.parametrize("method", METHODS)
@ONE_PER_FAMILY
def test_every_method_is_deterministic(name, method):
    model, x = build(name)
    own = METHODS[method](model, SCHEDULE)
    first = run(own, x)
    torch.manual_seed(99)
    assert torch.equal(run(own, x), first) and torch.equal(run(METHODS[method](model, SCHEDULE), x), first)
    assert torch.allclose(run(own, x[1:]), first[1:], atol=1e-5), "a clip depends on its neighbour"


def test_random_drop_takes_other_tokens_in_each_block_and_for_each_seed():
    def kept(model):
        return [frozenset(block.order[:40].argsort()[:20].tolist()) for block in model.blocks]

    model, _ = build("vit")
    drawn = [rows for seed in range(30) for rows in kept(random_drop(model, 1, seed=3 * seed))]
    assert len(set(drawn)) == 90
    often = np.bincount([row for rows in drawn for row in rows], minlength=40)
    # 90 draws of half of the rows: the standard deviation is 4.7
    assert often.min() > 20 and often.max() < 70, "some positions are dropped more than others"


def full_attention(case, block, x):
    """Return the attention weights (B, heads, N, N) that the model's own unfused form computes."""
    if case.adapter == "Hugging Face AST":
        block.attention.config._attn_implementation = "eager"
        return block.attention(block.layernorm_before(x))[1]
    if case.adapter == "KWT":
        q, k = (block.attn._heads(linear(x)) for linear in (block.attn.q, block.attn.k))
        return (q @ k.mT / k.shape[-1] ** 0.5).softmax(-1)
    weights = []
    block.attn.fused_attn = False
    block.attn.attn_drop.register_forward_pre_hook(lambda module, args: weights.append(args[0]))
    block.attn(block.norm1(x))
    return weights[0]


@NAMED
def test_class_attention_is_the_models_own(name):
    model, _ = build(name)
    (encoder, adapter), case = next(find_encoders(model)), CASES[name]
    block = getattr(encoder, adapter.blocks)[1]
    projection = adapter.projection(block, "key")
    add_recorder(projection)
    x = torch.randn(2, case.n_tokens, projection.in_features)
    n_class = n_class_tokens(adapter, encoder)
    assert n_class == (1 if name == "vit_registers" else case.n_prefix)
    with torch.no_grad():
        _, projected = record(projection, adapter.attend, block, x, None)
        got = class_attention(adapter, block, x, projected, n_class)
        expected = full_attention(case, block, x)[:, :, :n_class].mean((1, 2))
    assert torch.allclose(got, expected, atol=1e-5)
    assert torch.allclose(got.sum(-1), torch.ones(2), atol=1e-5)


def random_double(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.double().eval()


def naive_topk(blocks, x, schedule, n_heads, n_prefix, pre_norm):
    """One clip (N, C) through blocks (float64 state dicts) that drop, with loops over heads and tokens."""
    for w, r in zip(blocks, schedule, strict=True):
        if pre_norm:
            normed = reference.layer_norm(x, w["norm1.weight"], w["norm1.bias"], 1e-6)
            q, k, v = np.split(normed @ w["attn.qkv.weight"].T + w["attn.qkv.bias"], 3, axis=-1)
        else:
            q, k, v = (x @ w[f"attn.{part}.weight"].T for part in "qkv")
        out = reference.attention(x, q, k, v, n_heads, np.ones(len(x)))
        x = x + out @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        x = x if pre_norm else reference.layer_norm(x, w["norm1.weight"], w["norm1.bias"], 1e-6)
        attention, width = np.zeros(len(x)), q.shape[1] // n_heads
        for asking in range(n_prefix):
            for head in range(n_heads):
                part = slice(head * width, (head + 1) * width)
                weights = np.array([np.exp(q[asking, part] @ key[part] / width**0.5) for key in k])
                attention += weights / weights.sum()
        patches = sorted(range(n_prefix, len(x)), key=lambda token: attention[token])
        x = x[[token for token in range(len(x)) if token not in patches[:r]]]
        act = reference.gelu if pre_norm else reference.gelu_tanh
        fed = reference.layer_norm(x, w["norm2.weight"], w["norm2.bias"], 1e-6) if pre_norm else x
        x = x + act(fed @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]) @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
        x = x if pre_norm else reference.layer_norm(x, w["norm2.weight"], w["norm2.bias"], 1e-6)
    return x


@pytest.mark.parametrize("schedule", [[4, 3, 2], [0, 5, 0], [7, 0, 1]])
@pytest.mark.parametrize("family", [VisionTransformer, VisionTransformerDistilled, KWT])
def test_topk_class_against_a_naive_loop(family, schedule):
    if family is KWT:
        model = KWT(width=12, depth=3, n_heads=2, mlp_width=20, n_frames=15, n_coefficients=4, n_classes=2)
    else:
        model = family(img_size=64, patch_size=16, embed_dim=12, depth=3, num_heads=2, num_classes=0)
    model = random_double(model)
    weights = [{key: value.numpy() for key, value in block.state_dict().items()} for block in model.blocks]
    x = torch.randn(2, 17, 12).double()
    with torch.no_grad():
        y = x
        for block in METHODS["topk-class"](model, schedule).blocks:
            y = block(y)
    for clip in range(2):
        expected = naive_topk(weights, x[clip].numpy(), schedule, 2, model.num_prefix_tokens, family is not KWT)
        np.testing.assert_allclose(y[clip].numpy(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_ast_and_its_hugging_face_twin_agree(method):
    ast = random_double(AST(None, width=16, depth=3, n_heads=2, n_classes=3, n_mels=48, n_frames=64, norm_eps=1e-12))
    ast.mlp_head[0].eps = 1e-12
    twin = to_huggingface(ast.float()).eval()
    x = torch.randn(2, 64, 48)
    assert torch.allclose(run(METHODS[method](ast, 4), x), run(METHODS[method](twin, 4), x), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@ONE_PER_FAMILY
def test_bfloat16(name, method):
    model, x = build(name)
    out = run(METHODS[method](model.bfloat16(), SCHEDULE), x.bfloat16())
    assert out.dtype == torch.bfloat16 and out.isfinite().all()


def test_dropping_keeps_the_fused_kernel():
    """With every backend but flash forbidden, a dropping model still runs: nothing gives attention a mask."""
    model, x = build("kwt")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        for method in DROPPING:
            assert run(METHODS[method](model, SCHEDULE), x).isfinite().all()


@pytest.mark.parametrize("method", DROPPING)
@pytest.mark.parametrize("name", POOLING)
def test_dropping_refuses_heads_that_pool_patches(name, method):
    model, _ = build(name)
    with pytest.raises(ValueError, match="pools patch tokens"):
        METHODS[method](model, 1)


def test_topk_refuses_a_model_without_class_token():
    model = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=12, depth=1, num_heads=2, class_token=False, global_pool=""
    )
    with pytest.raises(ValueError, match="topk-class needs a class token"):
        METHODS["topk-class"](model, 1)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_refused(method):
    model, _ = build("vit")
    with pytest.raises(ValueError, match="give the unpatched model"):
        METHODS[method](apply_patch(copy.deepcopy(model)), 1)
    if method == "unpatched":
        return
    for wrong in (-1, "2", [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"r=|r lists 4 layers"):
            METHODS[method](model, wrong)
    with pytest.raises(UnsupportedModelError, match="no encoder of a known family"):
        METHODS[method](nn.Linear(2, 2), 1)


def test_counting_refuses_what_it_does_not_know():
    model, _ = build("vit")
    with pytest.raises(ValueError, match="no method is called 'topk'"):
        tokens_and_macs("topk", model, 1, 17)
    with pytest.raises(ValueError, match="give the unpatched model"):
        tokens_and_macs("merged", apply_patch(model), 1, 17)
    with pytest.raises(UnsupportedModelError, match="no encoder of a known family"):
        tokens_and_macs("unpatched", nn.Linear(2, 2), 1, 17)
