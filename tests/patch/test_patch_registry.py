"""A third party adds a family of its own; everything that is not of a family is refused with a reason."""

import pytest
import timm
import torch
from timm.models.vision_transformer import Block, ParallelScalingBlock, VisionTransformer
from torch import nn

from tome_audio.patch import (
    Adapter,
    UnsupportedModelError,
    apply_patch,
    register_adapter,
    registered_adapters,
    remove_patch,
    trace,
    unregister_adapter,
)


class GatedLayer(nn.Module):
    """A block nobody has seen: one gate, single-head attention written by hand."""

    def __init__(self, width=8):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.gate = nn.Parameter(torch.randn(width))
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, width))

    def attention(self, x, bias=None):
        scores = self.q(x) @ self.k(x).mT * x.shape[-1] ** -0.5
        if bias is not None:
            scores = scores + bias[:, 0]
        return scores.softmax(-1) @ self.v(x) * self.gate.sigmoid()

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


class GatedEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(GatedLayer() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x[:, 0]


class GatedAdapter(Adapter):
    name = "gated"
    encoder_class = f"{__name__}.GatedEncoder"
    block_class = f"{__name__}.GatedLayer"
    blocks = "layers"

    def n_prefix(self, encoder):
        return 1

    def attend(self, block, x, bias):
        return x + block.attention(x, bias)

    def feed_forward(self, block, x):
        return x + block.mlp(x)

    def projection(self, block, metric):
        return block.k if metric == "key" else block.v

    def parts(self, block):
        return nn.ModuleList([block.q, block.k, block.v]), block.mlp


@pytest.fixture
def gated():
    register_adapter(GatedAdapter())
    yield
    unregister_adapter("gated")


@pytest.mark.parametrize("metric", ["key", "value", "hidden"])
def test_a_family_of_its_own(gated, metric):
    model, x = GatedEncoder(), torch.randn(2, 11, 8)
    plain = model(x)
    apply_patch(model, 3, metric=metric)
    with trace(model) as traces:
        merged = model(x)
    assert traces[0].tokens == [11, 8, 5] and not torch.equal(merged, plain)
    model.r = 0
    assert torch.equal(model(x), plain)
    assert type(remove_patch(model)) is GatedEncoder


def test_names_cannot_clash(gated):
    with pytest.raises(ValueError, match="clashes with the registered 'gated'"):
        register_adapter(GatedAdapter())
    with pytest.raises(ValueError, match="no adapter is called 'nobody'"):
        unregister_adapter("nobody")


def test_an_adapter_needs_its_names():
    class Nameless(GatedAdapter):
        block_class = None

    with pytest.raises(ValueError, match=r"Nameless\.block_class must be a string"):
        register_adapter(Nameless())
    assert "gated" not in registered_adapters()


def test_a_wiring_that_differs_from_the_model_is_refused():
    class Careless(GatedAdapter):
        name = "careless"

        def feed_forward(self, block, x):
            return block.mlp(x)  # forgot the residual

    class Weightless(GatedAdapter):
        name = "weightless"

        def attend(self, block, x, bias):
            return x + block.attention(x)  # forgot the sizes

    for adapter, message in ((Careless(), "run in two parts as 'careless' does"), (Weightless(), "a token of size 2")):
        register_adapter(adapter)
        try:
            model = GatedEncoder()
            with pytest.raises(UnsupportedModelError, match=message):
                apply_patch(model)
            assert type(model.layers) is nn.ModuleList and type(model) is GatedEncoder
            assert not any(m._forward_hooks for m in model.modules())
        finally:
            unregister_adapter(adapter.name)


def test_a_family_may_refine_another():
    from tome_audio.patch.adapters.timm_vit import TimmAdapter

    class MyViT(VisionTransformer):
        pass

    class MyAdapter(TimmAdapter):
        name = "my vit"
        encoder_class = f"{MyViT.__module__}.{MyViT.__qualname__}"

    register_adapter(MyAdapter())
    try:
        model = MyViT(img_size=32, patch_size=16, embed_dim=12, depth=2, num_heads=2, num_classes=3)
        apply_patch(model, 1)
        assert model.blocks.adapter.name == "my vit" and type(remove_patch(model)) is MyViT
    finally:
        unregister_adapter("my vit")


def small_vit(**kwargs):
    return VisionTransformer(img_size=32, patch_size=16, embed_dim=12, depth=2, num_heads=2, num_classes=3, **kwargs)


def test_models_without_a_known_encoder_are_refused():
    for model in (nn.Linear(3, 3), timm.create_model("resnet18"), GatedEncoder()):
        with pytest.raises(UnsupportedModelError, match="holds no encoder of a known family"):
            apply_patch(model)
    with pytest.raises(UnsupportedModelError, match=r"needs a torch\.nn\.Module, got str"):
        apply_patch("kwt1")


def test_blocks_of_another_kind_are_refused():
    with pytest.raises(UnsupportedModelError, match="ParallelScalingBlock with a forward of its own"):
        apply_patch(small_vit(block_fn=ParallelScalingBlock))


def test_a_block_with_another_forward_is_refused():
    class Doubled(Block):
        def forward(self, x, attn_mask=None, is_causal=False):
            return 2 * super().forward(x)

    with pytest.raises(UnsupportedModelError, match="forward of its own"):
        apply_patch(small_vit(block_fn=Doubled))
    model = small_vit()
    model.blocks[1].forward = lambda x: x
    with pytest.raises(UnsupportedModelError, match=r"block 1 of .*VisionTransformer"):
        apply_patch(model)


def test_a_block_list_of_another_kind_is_refused():
    model = small_vit()
    model.blocks = nn.Identity()
    with pytest.raises(UnsupportedModelError, match="should be a list of blocks"):
        apply_patch(model)


def test_a_model_on_the_meta_device_can_be_patched():
    with torch.device("meta"):
        model = apply_patch(small_vit(), 1)
    assert model(torch.randn(1, 3, 32, 32, device="meta")).shape == (1, 3)
