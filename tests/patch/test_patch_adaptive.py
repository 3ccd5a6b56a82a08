"""Amounts that depend on the clips: a similarity threshold, on every family."""

import pytest
import torch
from fakes import CASES, DEPTH, logits
from torch import nn

from tome_audio.merge import SimilarityThreshold
from tome_audio.patch import MergeConfig, apply_patch, describe, token_mask, trace

SERVED = [name for name in CASES if "avgpool" not in name and "attention_pool" not in name]


def build(name, batch=3):
    case = CASES[name]
    return case.build().eval(), torch.randn(batch, *case.input_shape, generator=torch.Generator().manual_seed(1)), case


@torch.no_grad()
def run(model, x, valid=None):
    with token_mask(valid), trace(model) as traces:
        output = logits(model(x))
    return output, traces[0].tokens


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_more_similar_than_one(name):
    model, x, case = build(name)
    before = logits(model(x))
    apply_patch(model, SimilarityThreshold(1.0, before=(1.0,)), prefix_only=False)
    output, tokens = run(model, x)
    # A cosine may round to just above 1 where tokens are equal; these are random.
    assert tokens == [case.n_tokens] * (DEPTH + 1) and torch.allclose(output, before, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_everything_is_more_similar_than_minus_one(name):
    model, x, case = build(name)
    left = [case.n_tokens]
    for _ in range(DEPTH + 1):
        left.append(left[-1] - (left[-1] - case.n_prefix) // 2)
    apply_patch(model, SimilarityThreshold(-1.0, before=(-1.0,)), prefix_only=False)
    halved, tokens = run(model, x)
    assert tokens == left[1:] and halved.isfinite().all()
    model.r = SimilarityThreshold((-1.0,))
    assert run(model, x)[1] == [left[0], *[left[1]] * DEPTH]


@pytest.mark.parametrize("name", CASES)
def test_a_lower_threshold_merges_more(name):
    model, x, _ = build(name)
    apply_patch(model, prefix_only=False)
    last = []
    for threshold in (1.0, 0.9, 0.5, 0.2, -1.0):
        model.r = SimilarityThreshold((threshold,))
        last.append(run(model, x)[1][-1])
    assert last == sorted(last, reverse=True) and last[-1] < last[0]


@pytest.mark.parametrize("name", CASES)
def test_the_quantile_chooses_the_clip_that_decides(name):
    model, x, _ = build(name)
    apply_patch(model, prefix_only=False)
    alone, both = [], []
    for clip in range(3):
        model.r = SimilarityThreshold((0.3,))
        alone.append(run(model, x[clip : clip + 1])[1][1])
    for quantile in (0.0, 0.5, 1.0):
        model.r = SimilarityThreshold((0.3,), quantile=quantile)
        both.append(run(model, x)[1][1])
    assert both == sorted(alone, reverse=True)


@pytest.mark.parametrize("name", SERVED)
def test_clips_of_different_length_merge_their_own_count(name):
    model, x, case = build(name)
    lengths = [case.n_tokens, case.n_tokens - 3, case.n_prefix + 4]
    valid = torch.arange(case.n_tokens) < torch.tensor(lengths)[:, None]
    apply_patch(model, SimilarityThreshold(0.3, before=(0.5,), quantile=0.0))
    together, _ = run(model, x, valid)
    for clip in range(3):
        own, _ = run(model, x[clip : clip + 1], valid[clip : clip + 1])
        assert torch.allclose(together[clip], own[0], atol=1e-5), clip


@pytest.mark.parametrize("name", CASES)
def test_checkpointing_gives_the_same_gradients(name):
    model, x, case = build(name)
    apply_patch(model, SimilarityThreshold(0.3), prefix_only=False)
    gradients = []
    for switch in (False, True):
        case.checkpointing(model, switch)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.zero_grad()
        torch.manual_seed(0)
        logits(model(x)).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_what_cannot_be_known_or_done_is_said():
    model, _, case = build("vit")
    apply_patch(model, SimilarityThreshold(0.9))
    with pytest.raises(ValueError, match="depends on the clip"):
        describe(model, case.n_tokens)
    with pytest.raises(ValueError, match="lists 4 blocks but the model has 3"):
        model.r = SimilarityThreshold((0.9,) * 4)
    with pytest.raises(ValueError, match="random pairs have no similarity"):
        apply_patch(model, SimilarityThreshold(0.9), matching="random")


def test_options_survive_plain_values():
    for rate in (SimilarityThreshold(0.9), SimilarityThreshold((0.9, 0.8), (0.95,), 0.25)):
        config = MergeConfig(r=rate)
        assert MergeConfig.from_dict(config.to_dict()) == config


def test_a_compiled_model_runs_its_blocks_as_they_are():
    model, x, _ = build("vit")
    expected = run(apply_patch(model, SimilarityThreshold(0.3)), x)[0]
    with torch.no_grad():
        assert torch.allclose(torch.compile(model, backend="eager")(x), expected, atol=1e-5)
        torch.compiler.reset()
        with pytest.raises(Exception, match="give r as numbers"):
            torch.compile(model, backend="eager", fullgraph=True)(x)
