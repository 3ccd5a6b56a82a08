"""Clips of different lengths in one batch: each gets what it gets alone, and padding costs next to nothing."""

import copy

import pytest
import timm
import torch
from fakes import CASES, logits

from tome_audio.merge import ComputeTarget, Schedule
from tome_audio.patch import apply_patch, token_mask, trace
from tome_audio.profiling import count_macs

pytestmark = pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")  # short clips have few tokens
SERVED = [name for name in CASES if "avgpool" not in name and "attention_pool" not in name]
RATES = [0, 2, [3, 1, 1], Schedule((2, 1), (2, 1)), Schedule((4,), (1,), "bipartite"), ComputeTarget(1.4)]


def build(name, batch=3):
    case = CASES[name]
    x = torch.randn(batch, *case.input_shape, generator=torch.Generator().manual_seed(1))
    n_patches = case.n_tokens - case.n_prefix
    valid = torch.zeros(batch, case.n_tokens, dtype=torch.bool)
    valid[:, : case.n_prefix] = True
    for clip, share in enumerate((0.9, 0.5, 0.7)[:batch]):  # scattered: on a patch grid padding is not one run
        order = torch.randperm(n_patches, generator=torch.Generator().manual_seed(clip))
        valid[clip, case.n_prefix + order[: max(2, int(share * n_patches))]] = True
    return case.build().eval(), x, valid


@torch.no_grad()
def run(model, x, valid=None):
    with token_mask(valid):
        return logits(model(x))


@pytest.mark.parametrize("matching", ["bipartite", "adjacent", "ward", "random"])
@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("name", SERVED)
def test_a_batch_gives_each_clip_what_it_gets_alone(name, rate, matching):
    model, x, valid = build(name)
    apply_patch(model, rate, matching=matching)
    together = run(model, x, valid)
    for clip in range(len(x)):
        own = run(model, x[clip : clip + 1], valid[clip : clip + 1])
        assert torch.allclose(together[clip], own[0], atol=1e-5), clip


@pytest.mark.parametrize("name", SERVED)
def test_rounds_give_each_clip_what_it_gets_alone(name):
    model, x, valid = build(name)
    apply_patch(model, [5, 3], matching="ward", metric="hidden", rounds=3)
    together = run(model, x, valid)
    for clip in range(len(x)):
        own = run(model, x[clip : clip + 1], valid[clip : clip + 1])
        assert torch.allclose(together[clip], own[0], atol=1e-5), clip


@pytest.mark.parametrize("name", SERVED)
def test_what_padding_holds_does_not_matter(name):
    model, x, valid = build(name, batch=1)
    apply_patch(model, 2, prop_attn=False)
    before = run(model, x, valid)
    hidden = []
    blocks = next(m for m in model.modules() if hasattr(m, "queries_of_last"))
    blocks[0].register_forward_pre_hook(lambda module, args: hidden.append(args[0].clone()))
    run(model, x, valid)
    poisoned = torch.where(valid[..., None], hidden[0], 7.0)
    blocks[0].register_forward_pre_hook(lambda module, args: (poisoned, *args[1:]))
    assert torch.allclose(run(model, x, valid), before, atol=1e-5)


@pytest.mark.parametrize("name", ["ast", "kwt"])
def test_lengths_are_what_the_unpatched_model_masks(name):
    model, x, _ = build(name)
    lengths = torch.tensor([x.shape[1], 12, 17])
    with torch.no_grad():
        masked = model(x, lengths)
        changed = x.clone()
        for clip, length in enumerate(lengths.tolist()):
            changed[clip, length:] += 100.0
        behind = changed if name == "kwt" else x  # AST's last patch may see frames on both sides of the end
        assert torch.allclose(model(behind, lengths), masked, atol=1e-4)
        merged = apply_patch(copy.deepcopy(model))
        assert torch.allclose(merged(x, lengths), masked, atol=1e-5)
        merged.r = 2
        together = merged(x, lengths)
        for clip in range(3):
            own = merged(x[clip : clip + 1], lengths[clip : clip + 1])
            assert torch.allclose(together[clip], own[0], atol=1e-5)


def test_huggingface_takes_its_own_mask():
    model, x, valid = build("huggingface_sdpa")
    with torch.no_grad():
        unpatched = model(x, attention_mask=valid.long()).logits
        apply_patch(model)
        assert torch.equal(model(x, attention_mask=valid.long()).logits, unpatched)
        model.r = [1]
        assert torch.equal(model(x, attention_mask=valid.long()).logits, run(model, x, valid))
        with pytest.raises(ValueError, match="must be"):
            model(x, attention_mask=torch.zeros(3, 1, 10, 10))


@pytest.mark.parametrize("name", ["vit", "ast_original_layout", "huggingface_sdpa", "kwt"])
def test_half_padded_costs_about_half(name):
    model, x, valid = build(name, batch=1)
    case = CASES[name]
    valid[:] = torch.arange(case.n_tokens) < case.n_prefix + (case.n_tokens - case.n_prefix) // 2
    apply_patch(model, [1])
    with torch.no_grad():
        whole = count_macs(model, x)
        with token_mask(valid), trace(model) as traces:
            half = count_macs(model, x)
    assert traces[0].tokens[0] == int(valid.sum()) and half < 0.75 * whole


@pytest.mark.parametrize("name", ["vit_avgpool", "vit_attention_pool", "ast_avgpool"])
def test_heads_that_pool_patches_refuse(name):
    model, x, valid = build(name)
    apply_patch(model, 1)
    with pytest.raises(ValueError, match="pools patches"):
        run(model, x, valid)


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_mean_of_patches_of_our_ast_is_that_of_the_clip_alone(rate):
    model, x, _ = build("ast_avgpool")
    lengths = torch.tensor([48, 12, 31])
    unpatched = model(x, lengths)
    apply_patch(model, rate)
    together = model(x, lengths)
    for clip in range(len(x)):
        alone = model(x[clip : clip + 1], lengths[clip : clip + 1])[0]
        assert torch.allclose(together[clip], alone, atol=1e-5), clip
    assert torch.allclose(together, unpatched, atol=1e-5) == (rate == 0)


def test_masks_that_do_not_fit():
    model, x, valid = build("vit")
    apply_patch(model, 1)
    with pytest.raises(ValueError, match=r"shape \(3, 16\), but \(3, 17\)"):
        run(model, x, valid[:, 1:])
    with pytest.raises(ValueError, match="hides one of the 1 prefix tokens"):
        run(model, x, ~valid)
    valid[1, 1:] = False
    with pytest.raises(ValueError, match=r"clips \[1\] of the batch have no token"):
        run(model, x, valid)


@pytest.mark.parametrize("lengths", [[0, 3, 4], [1, 2, 100], [[1, 2, 3]]])
def test_bad_lengths(lengths):
    model, x, _ = build("ast")
    with pytest.raises(ValueError, match="lengths must hold frames from 1 to"):
        model(x, torch.tensor(lengths))


@pytest.mark.parametrize("target", [1.5, 2.0, 2.5, 3.0])
def test_a_target_is_settled_for_each_clip(target):
    model = timm.create_model("vit_tiny_patch16_224", img_size=160, embed_dim=48, num_heads=3, depth=6).eval()
    x, valid = torch.randn(2, 3, 160, 160), torch.arange(101) < torch.tensor([[101], [31]])
    apply_patch(model, ComputeTarget(target))
    together = run(model, x, valid)
    for clip in range(2):
        assert torch.allclose(run(model, x[clip : clip + 1], valid[clip : clip + 1])[0], together[clip], atol=1e-5)


@pytest.mark.parametrize("rate", [0, [0, 0, 3], [2, 2]], ids=str)
def test_one_length_for_all_clips_with_every_token_given_back(rate):
    model, x, valid = build("vit")
    valid[:] = valid[:1]
    whole = run(apply_patch(copy.deepcopy(model), rate), x, valid)
    apply_patch(model, rate, unmerge=True)
    with trace(model) as traces:
        dense = run(model, x, valid)
    assert torch.allclose(dense, whole, atol=1e-5)
    assert all(traces[0].plan(layer).assign.shape == valid.shape for layer in range(3))


def test_gradient_checkpointing_remembers_the_mask():
    model, x, valid = build("vit")
    apply_patch(model, 1)
    other = copy.deepcopy(model).train()
    CASES["vit"].checkpointing(other, True)
    for one in (model, other):
        with token_mask(valid):
            loss = logits(one(x)).square().sum()
        loss.backward()  # outside of the context
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad, atol=1e-6)
