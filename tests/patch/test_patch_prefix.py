"""The last block computes the prefix alone where nothing else is read: same logits, every token on request."""

import copy

import pytest
import torch
from fakes import CASES, logits

from tome_audio.merge import ComputeTarget
from tome_audio.patch import UnsupportedModelError, apply_patch, describe, remove_patch, trace
from tome_audio.patch.model import merged_blocks
from tome_audio.profiling import count_macs

R = [2, 1, 2]
SERVED = [
    "vit", "vit_layerscale_qknorm", "vit_registers", "deit_distilled", "ast", "ast_class_token", "huggingface_sdpa",
    "kwt",
]  # fmt: skip


def build(name):
    case = CASES[name]
    return case.build().eval(), torch.randn(2, *case.input_shape, generator=torch.Generator().manual_seed(1)), case


@torch.no_grad()
def run(model, x):
    return logits(model(x))


@pytest.mark.parametrize("name", CASES)
def test_it_is_on_where_the_head_reads_the_prefix(name):
    model, x, case = build(name)
    apply_patch(model, R)
    assert describe(model, case.n_tokens).prefix_only is (name in SERVED)
    with trace(model) as traces:
        run(model, x)
    assert traces[0].tokens == list(describe(model, case.n_tokens).tokens)


@pytest.mark.parametrize("r", [0, R])
@pytest.mark.parametrize("name", [*SERVED, "ast_original_layout"])
def test_logits_are_those_of_the_whole_block(name, r):
    model, x, _ = build(name)
    whole = run(apply_patch(copy.deepcopy(model), r, prefix_only=False), x)
    cut = apply_patch(model, r, prefix_only=True)
    shapes = []
    merged_blocks(cut)[0][-1].register_forward_hook(lambda module, args, output: shapes.append(output.shape[1]))
    assert torch.allclose(run(cut, x), whole, atol=1e-5, rtol=1e-5)
    assert shapes == [merged_blocks(cut)[0].n_prefix]


@pytest.mark.parametrize("name", SERVED)
def test_gradients_are_those_of_the_whole_block(name):
    model, x, _ = build(name)
    grads = []
    for prefix_only in (False, True):
        one = apply_patch(copy.deepcopy(model), R, prefix_only=prefix_only)
        logits(one(x)).square().sum().backward()
        grads.append({n: p.grad for n, p in one.named_parameters() if p.grad is not None})
    for parameter, grad in grads[0].items():
        # A key's bias moves all scores of a row alike: its true gradient is 0.
        assert torch.allclose(grads[1][parameter], grad, atol=1e-4, rtol=1e-3), parameter


@pytest.mark.parametrize("name", SERVED)
def test_macs_are_those_counted(name):
    model, x, case = build(name)
    apply_patch(model, R, prefix_only=False)
    with torch.no_grad():
        whole = count_macs(model, x) - 2 * sum(describe(model, case.n_tokens).macs)
        apply_patch(model, R)
        cut = count_macs(model, x) - 2 * sum(describe(model, case.n_tokens).macs)
    # What is left is patch embedding, head and matching; matching of the last block falls away.
    assert 0 <= whole - cut < 2 * 2 * case.n_tokens**2 * 64


def test_r_zero_stays_bit_exact_by_default():
    model, x, case = build("ast")
    before = run(model, x)
    assert torch.equal(run(apply_patch(model), x), before)
    assert not describe(model, case.n_tokens).prefix_only


def test_features_keep_every_token():
    model, x, _ = build("vit")
    whole = apply_patch(copy.deepcopy(model), R, prefix_only=False)
    apply_patch(model, R)
    run(model, x)  # a call that reads the prefix must not change the next one
    with torch.no_grad():
        assert torch.equal(model.forward_features(x), whole.forward_features(x))


def test_hidden_states_keep_every_token():
    model, x, case = build("huggingface_sdpa")
    apply_patch(model, R)
    with torch.no_grad():
        output = model(x, output_hidden_states=True)
        inner = model.audio_spectrogram_transformer(x).last_hidden_state
    assert [state.shape[1] for state in output.hidden_states] == [case.n_tokens, 8, 7, 5]
    assert inner.shape[1] == 5
    assert torch.allclose(output.logits, run(model, x), atol=1e-5)


def test_a_hook_on_attention_still_sees_every_token():
    model, x, case = build("vit")
    apply_patch(model, R)
    seen = []
    model.blocks[-1].attn.qkv.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    assert not describe(model, case.n_tokens).prefix_only
    run(model, x)
    assert seen == [case.n_tokens - 3]


def test_a_head_reset_to_pool_patches_reads_them():
    model, _, case = build("vit")
    apply_patch(model, R)
    model.reset_classifier(5, "avg")
    assert not describe(model, case.n_tokens).prefix_only
    model.reset_classifier(5, "token")
    assert describe(model, case.n_tokens).prefix_only


def test_a_model_around_a_known_classifier_is_served():
    model, x, case = build("ast")
    outer = torch.nn.Sequential(model)
    apply_patch(outer, R)
    assert describe(outer, case.n_tokens).prefix_only
    assert torch.equal(run(outer, x), run(apply_patch(copy.deepcopy(model), R), x))
    remove_patch(outer)
    assert type(model).__mro__[0].__module__ == "tome_audio.models.ast" and not hasattr(model, "r")


@pytest.mark.parametrize("name", ["vit_avgpool", "huggingface_eager"])
def test_asking_for_it_in_vain_is_an_error(name):
    model, _, _ = build(name)
    with pytest.raises(UnsupportedModelError, match="prefix_only=True, but"):
        apply_patch(model, prefix_only=True)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="prefix_only must be True, False or None, got 1"):
        apply_patch(build("vit")[0], prefix_only=1)


@pytest.mark.parametrize(("r", "prefix_only"), [(0, True), ([0, 0, 2], None)])
def test_a_mask_from_the_caller_is_heeded(r, prefix_only):
    model, x, case = build("vit")
    mask = torch.rand(case.n_tokens, case.n_tokens, generator=torch.Generator().manual_seed(0)) < 0.7
    mask.fill_diagonal_(True)
    with torch.no_grad():
        expected = model(x, attn_mask=mask)
        apply_patch(model, r, prefix_only=prefix_only)
        assert torch.allclose(model(x, attn_mask=mask), expected, atol=1e-5)
    model, x, _ = build("huggingface_sdpa")
    mask = torch.arange(10) < torch.tensor([[10], [6]])
    with torch.no_grad():
        expected = model(x, attention_mask=mask.long()).logits
        apply_patch(model, 0, prefix_only=True)
        assert torch.allclose(model(x, attention_mask=mask.long()).logits, expected, atol=1e-5)


def test_a_head_of_ones_own_reads_what_it_wants():
    class Mean(type(build("vit")[0])):
        def forward_head(self, x, pre_logits=False):
            return self.head(x[:, 1:].mean(1))

    model, x, case = build("vit")
    model.__class__ = Mean
    whole = run(apply_patch(copy.deepcopy(model), 2, prefix_only=False), x)
    apply_patch(model, 2)
    assert torch.equal(run(model, x), whole) and not describe(model, case.n_tokens).prefix_only


def test_a_wrapper_around_attention_still_runs():
    model, x, case = build("vit")
    apply_patch(model, R)
    attention, seen = model.blocks[-1].attn, []
    inner = attention.forward
    attention.forward = lambda x, **kwargs: seen.append(x.shape[1]) or inner(x, **kwargs)
    run(model, x)
    assert seen == [case.n_tokens - 3]


def test_fewer_protected_tokens_than_the_head_reads():
    model, x, _ = build("ast")
    assert run(apply_patch(copy.deepcopy(model), 1, n_prefix=1), x).isfinite().all()
    with pytest.raises(UnsupportedModelError, match="reads tokens behind the 1 prefix tokens"):
        apply_patch(model, n_prefix=1, prefix_only=True)


def test_a_target_means_the_same_for_every_caller():
    model, x, _ = build("huggingface_sdpa")
    apply_patch(model, ComputeTarget(1.4))
    with torch.no_grad():
        assert torch.allclose(model(x, output_hidden_states=True).logits, model(x).logits, atol=1e-5)


def test_a_classifier_inside_a_classifier():
    model, x, _ = build("ast")
    model.teacher = build("ast")[0]
    expected = run(apply_patch(build("ast")[0], 2), x)
    apply_patch(model, 2)
    assert run(model, x).shape == expected.shape and run(model.teacher, x).shape == expected.shape
    remove_patch(model)
    assert not any(hasattr(module, "base_class") for module in model.modules())


def test_blocks_in_two_places_are_refused_whole():
    model, other = build("vit")[0], build("vit")[0]
    other.blocks = model.blocks
    both = torch.nn.ModuleList([model, other])
    with pytest.raises(UnsupportedModelError, match="uses a block in more than one place"):
        apply_patch(both, 2)
    assert not any(hasattr(module, "base_class") for module in both.modules())
