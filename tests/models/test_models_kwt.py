from __future__ import annotations

import copy
import pickle

import pytest
import torch
from small_models import noise, randomise_, small_kwt

from tome_audio.models import KWT
from tome_audio.models.kwt import KWTAttention


def naive_forward(model: KWT, features: torch.Tensor) -> torch.Tensor:
    """Run the model from its weights alone, in float64, one head at a time."""
    w = {key: value.double() for key, value in model.state_dict().items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = features.double() @ w["patch.weight"].T + w["patch.bias"]
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]
    for i in range(len(model.blocks)):
        name = f"blocks.{i}"
        n_heads = model.blocks[i].attn.num_heads
        q, k, v = (x @ w[f"{name}.attn.{part}.weight"].T for part in "qkv")
        heads = zip(q.chunk(n_heads, -1), k.chunk(n_heads, -1), v.chunk(n_heads, -1), strict=True)
        out = torch.cat([(a @ b.mT / a.shape[-1] ** 0.5).softmax(-1) @ c for a, b, c in heads], -1)
        x = norm(x + out @ w[f"{name}.attn.proj.weight"].T + w[f"{name}.attn.proj.bias"], f"{name}.norm1")
        h = x @ w[f"{name}.mlp.fc1.weight"].T + w[f"{name}.mlp.fc1.bias"]
        h = 0.5 * h * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
        x = norm(x + h @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"], f"{name}.norm2")
    return x[:, 0] @ w["head.weight"].T + w["head.bias"]


@pytest.mark.parametrize("n_heads", [1, 2, 8])
def test_matches_a_naive_forward(n_heads):
    model, x = randomise_(small_kwt(n_heads=n_heads), std=0.7), noise(3, 9, 10)
    torch.testing.assert_close(model(x).double(), naive_forward(model, x), atol=1e-5, rtol=1e-5)


def test_waveforms_and_features_agree():
    model, waveform = small_kwt(), noise(2, 1700) * 0.1
    assert torch.equal(model(waveform), model(model.frontend(waveform)))
    assert model.forward_features(waveform).shape == (2, 10, 16)


def test_size_of_kwt_1():
    assert sum(p.numel() for p in KWT().parameters()) == 607_308


def test_mask_is_added_to_the_scores():
    """log 3 on a key counts it three times; minus infinity hides it."""
    attention, x = KWTAttention(16, 2), noise(2, 4, 16)
    thrice = attention(torch.cat([x, x[:, :1], x[:, :1]], 1))[:, :4]
    mask = torch.zeros(2, 1, 1, 4)
    mask[..., 0] = torch.tensor(3.0).log()
    torch.testing.assert_close(attention(x, mask), thrice, atol=1e-6, rtol=1e-5)
    mask[..., 0] = float("-inf")
    torch.testing.assert_close(attention(x, mask)[:, 1:], attention(x[:, 1:]), atol=1e-6, rtol=1e-5)


def test_block_passes_the_mask_on():
    block, x = small_kwt().blocks[0], noise(1, 5, 16)
    mask = noise(1, 2, 5, 5)
    expected = block.norm1(x + block.attn(x, mask))
    torch.testing.assert_close(block(x, mask), block.norm2(expected + block.mlp(expected)))
    assert not torch.allclose(block(x, mask), block(x))


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients():
    plain, saving = small_kwt().train(), small_kwt().train()
    saving.set_grad_checkpointing()
    calls = []
    saving.blocks[0].attn.register_forward_hook(lambda *_: calls.append(1))
    for model in (plain, saving):
        model(noise(2, 9, 10)).square().sum().backward()
    assert len(calls) == 2
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    calls.clear()
    saving.eval()(noise(2, 9, 10)).sum().backward()
    assert len(calls) == 1


def test_compiles_in_one_graph_from_the_waveform():
    model, x = small_kwt(), noise(2, 1760) * 0.1
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))


def test_deepcopy_and_pickle_keep_the_outputs():
    model, x = small_kwt(labels=list("abcd")), noise(1, 9, 10)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert twin.labels == tuple("abcd")


@pytest.mark.parametrize("shape", [(1700,), (2, 9, 11), (2, 8, 10), (2, 1, 9, 10)])
def test_wrong_input_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"expects waveforms \(batch, samples\).*9 frames, 10 coefficients") as error:
        small_kwt()(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="choose n_heads that divides it"):
        KWT(width=64, n_heads=3)
    with pytest.raises(ValueError, match="2 labels given for n_classes=12"):
        KWT(labels=["a", "b"])
