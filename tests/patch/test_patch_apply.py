"""Options, errors, and what a patched model offers beside its outputs."""

import json

import pytest
import torch
from fakes import CASES
from timm.models.vision_transformer import VisionTransformer

from tome_audio import MergeConfig, apply_patch, remove_patch
from tome_audio.merge import bipartite_match, merge_tokens
from tome_audio.patch import NotPatchedError, UnsupportedModelError, describe, merge_config, set_r, trace


@pytest.fixture
def vit():
    return CASES["vit"].build().eval()


IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bad", [-1, 1.5, "8", [1, -2], (8, 3)])
def test_a_bad_r_is_refused_and_changes_nothing(vit, bad):
    with pytest.raises(ValueError, match="r="):
        apply_patch(vit, bad)
    apply_patch(vit, 2)
    with pytest.raises(ValueError, match="r="):
        vit.r = bad
    assert vit.r == 2


def test_a_list_longer_than_the_model_is_refused(vit):
    with pytest.raises(ValueError, match="r lists 4 layers but the model has 3"):
        apply_patch(vit, [1, 2, 3, 4])
    assert type(vit) is VisionTransformer, "a refused patch must leave the model alone"
    apply_patch(vit, 2)
    with pytest.raises(ValueError, match="r lists 4 layers"):
        vit.r = [1, 2, 3, 4]
    assert vit.r == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"metric": "query"}, "metric='query' is unknown; choose one of key, value, hidden"),
        ({"matching": "best"}, "matching='best' is unknown"),
        ({"rounds": 0}, "rounds must be a whole number >= 1, got 0"),
        ({"prop_attn": 1}, "prop_attn must be True or False"),
        ({"n_prefix": -1}, "n_prefix must be a whole number"),
        ({"n_prefix": 1.5}, "n_prefix must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_bad_options_are_named(vit, option, message):
    with pytest.raises(ValueError, match=message):
        apply_patch(vit, **option)


def test_unpatched_models_say_what_to_do(vit):
    for call in (remove_patch, merge_config, lambda m: set_r(m, 3), lambda m: describe(m, 10)):
        with pytest.raises(NotPatchedError, match=r"call apply_patch\(model\) first"):
            call(vit)
    with pytest.raises(NotPatchedError), trace(vit):
        pass
    vit.r = 8  # a plain attribute: nothing can stop it, so patching does
    with pytest.raises(ValueError, match=r"If you set model\.r before apply_patch, it had no effect"):
        apply_patch(vit)


@pytest.mark.parametrize("rate", [7, [3, 2], (16, -0.5)])
def test_config_round_trip_through_json(rate):
    config = MergeConfig(r=rate, metric="hidden", unmerge=True, n_prefix=2)
    assert MergeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match=r"unknown merge options \['rr'\]"):
        MergeConfig.from_dict({"rr": 3})


def test_r_reads_back_what_was_set(vit):
    apply_patch(vit)
    for rate in (0, 4, [2, 1], (3, -1.0)):
        vit.r = rate
        assert vit.r == rate
    vit.r = [2, 1]
    vit.r.append(99)
    assert vit.r == [2, 1], "changing the list that was read must not change the model"


def test_slices_keep_the_schedule_of_the_whole_model(vit):
    apply_patch(vit, (2, -1.0))
    x = torch.randn(1, 17, 48)
    assert vit.blocks[:2].resolve(17, None).blocks == (4, 2) and vit.blocks[:2](x).shape[1] == 11
    with pytest.raises(ValueError, match="begins at block 1 cannot know what was merged before it"):
        vit.blocks[1:](x)
    vit.r = [0, 3]
    assert torch.equal(vit.blocks[1:](vit.blocks[:1](x)), vit.blocks(x))


def test_a_refused_second_patch_keeps_the_first(vit):
    expected = apply_patch(vit, [2, 1, 2], metric="hidden")(IMAGE)
    with pytest.raises(ValueError, match="r lists 4 layers"):
        apply_patch(vit, [1, 2, 3, 4])
    assert vit.r == [2, 1, 2] and merge_config(vit).metric == "hidden" and torch.equal(vit(IMAGE), expected)


def test_blocks_can_be_changed_in_a_loop(vit):
    apply_patch(vit, 2)
    for block in vit.blocks:
        block.attn.fused_attn = False
        block.marked = True
    assert all(vit.blocks[i].marked and not vit.blocks[i].attn.fused_attn for i in range(3))
    assert "object at" not in repr(vit)


def test_a_projection_wrapped_after_patching_is_noticed(vit):
    class Wrapped(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, x):
            return self.base(x) + 1

    apply_patch(vit, 2)
    for block in vit.blocks:
        block.attn.qkv = Wrapped(block.attn.qkv)
    with pytest.raises(RuntimeError, match="wrapped, fused or replaced after apply_patch"):
        vit(IMAGE)
    remove_patch(vit)
    with pytest.raises(UnsupportedModelError, match="come from a Wrapped, not from a linear layer"):
        apply_patch(vit)


def test_a_models_own_r_is_not_hidden(vit):
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.v, self.r = vit, torch.nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match="Scaled already has an attribute r"):
        apply_patch(Scaled())
    assert type(vit) is VisionTransformer


def test_the_block_list_is_not_a_model(vit):
    apply_patch(vit, 2)
    expected = vit(IMAGE)
    for call in (remove_patch, lambda m: apply_patch(m, 3)):
        with pytest.raises(UnsupportedModelError, match="give the model itself"):
            call(vit.blocks)
        assert torch.equal(vit(IMAGE), expected)


def test_a_parent_of_an_unpatched_part():
    model = CASES["ast_original_layout"].build().eval()
    plain = type(model)
    apply_patch(model, 2)
    remove_patch(model.v)
    assert not hasattr(model, "r") and type(remove_patch(model)) is plain


def test_replicas_run_their_own_blocks(vit):
    """As nn.DataParallel makes them: shallow copies with children of their own."""
    apply_patch(vit, 2)
    replica = vit.blocks._replicate_for_data_parallel()
    replica._modules = {name: torch.nn.Identity() for name in vit.blocks._modules}
    assert replica[0] is replica._modules["0"] and next(iter(replica[:1].children())) is replica._modules["0"]


def test_looking_leaves_no_trace(vit):
    apply_patch(vit, 2)
    with trace(vit) as traces:
        repr(vit)
        list(vit.blocks)
        vit(IMAGE)
    assert [t.tokens for t in traces] == [[17, 15, 13, 13]]


def test_options_read_back_are_a_copy(vit):
    apply_patch(vit, [2, 1])
    merge_config(vit).r.append(7)
    assert vit.r == [2, 1]


def test_batched_by_vmap():
    plan = bipartite_match(torch.randn(1, 9, 4), 3, n_prefix=1)
    x = torch.randn(6, 1, 9, 5)
    batched = torch.func.vmap(lambda t: merge_tokens(plan, t)[0])(x)
    assert torch.equal(batched, torch.stack([merge_tokens(plan, t)[0] for t in x]))


@pytest.mark.parametrize("matching", ["adjacent", "ward", "random"])
@torch.no_grad()
def test_compiled_models_follow_the_batch_and_r(vit, matching):
    apply_patch(vit, [2, 1, 2], matching=matching)
    torch._dynamo.reset()
    compiled = torch.compile(vit, fullgraph=True, backend="eager")
    for x in (IMAGE, torch.cat([IMAGE, IMAGE + 1])):
        assert torch.allclose(compiled(x), vit(x), atol=1e-6)
    vit.r = [1, 0, 1]
    assert torch.allclose(compiled(IMAGE), vit(IMAGE), atol=1e-6)


def test_inductor_compiles_it(vit):
    apply_patch(vit, [2, 1, 2])
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(vit, fullgraph=True)
        assert torch.allclose(compiled(IMAGE), vit(IMAGE), atol=1e-4)


def test_a_patch_on_a_part_of_a_model():
    model = CASES["ast_original_layout"].build().eval()
    apply_patch(model.v, 3)
    model.v.r = 2
    x = torch.randn(1, *CASES["ast_original_layout"].input_shape)
    with trace(model) as traces:
        model(x)
    assert traces[0].tokens == [26, 24, 22, 20]
    apply_patch(model, 1)
    assert model.r == model.v.r == 1
    remove_patch(model)
    assert not hasattr(model, "r") and not hasattr(model.v, "r")


def test_the_trace_belongs_to_its_model_and_ends_with_its_context(vit):
    other = CASES["vit"].build().eval()
    apply_patch(vit, 2)
    apply_patch(other, 3)
    with trace(vit) as traces:
        vit(IMAGE)
        other(IMAGE)
        vit(IMAGE)
    vit(IMAGE)
    assert [t.tokens for t in traces] == [[17, 15, 13, 13]] * 2
