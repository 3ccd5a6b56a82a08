"""What every patched model promises. The list runs on every case in `fakes.CASES`, and every adapter has a case."""

import copy
import io
import pickle
import threading

import pytest
import torch
from fakes import CASES, DEPTH, logits
from torch import nn

from tome_audio.patch import (
    MergeClampWarning,
    apply_patch,
    describe,
    merge_config,
    registered_adapters,
    remove_patch,
    trace,
)
from tome_audio.patch.apply import find_encoders

R = [2, 1, 2]


def test_every_adapter_has_a_case():
    assert {case.adapter for case in CASES.values()} == set(registered_adapters())


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def model(case):
    return case.build().eval()


@pytest.fixture
def x(case):
    return torch.randn(2, *case.input_shape)


@torch.no_grad()
def run(model, x):
    return logits(model(x))


def test_the_right_adapter_serves_it(case, model):
    assert [adapter.name for _, adapter in find_encoders(model)] == [case.adapter]


def test_r_zero_is_bit_exact(model, x):
    before = run(model, x)
    assert torch.equal(run(apply_patch(model), x), before)
    model.r = R
    assert not torch.equal(run(model, x), before)
    model.r = 0
    assert torch.equal(run(model, x), before)


@pytest.mark.parametrize("metric", ["key", "value", "hidden"])
@pytest.mark.parametrize("matching", ["bipartite", "adjacent", "ward", "random"])
def test_tokens_follow_the_schedule_and_prefixes_stay(case, model, x, metric, matching):
    apply_patch(model, R, metric=metric, matching=matching, prefix_only=False)
    with trace(model) as traces:
        run(model, x)
    (seen,) = traces
    expected = [case.n_tokens, case.n_tokens - 2, case.n_tokens - 3, case.n_tokens - 5]
    assert seen.tokens == expected == list(describe(model, case.n_tokens).tokens)
    for layer in range(DEPTH):
        assert torch.equal(seen.sizes[layer].sum(1), torch.full((2,), float(case.n_tokens)))
        prefix = seen.plan(layer).assign[:, : case.n_prefix]
        assert torch.equal(prefix, torch.arange(case.n_prefix).expand(2, -1))
        assert torch.equal(seen.sizes[layer][:, : case.n_prefix], torch.ones(2, case.n_prefix))


def test_patching_twice_replaces(model, x):
    once = run(apply_patch(copy.deepcopy(model), 2, metric="hidden"), x)
    apply_patch(apply_patch(model, 4), 2, metric="hidden")
    assert torch.equal(run(model, x), once)
    assert merge_config(model).r == 2 and merge_config(model).metric == "hidden"
    assert not any(module._forward_hooks for module in model.modules()), "the key recorder of the first patch stayed"


def test_remove_restores_everything(model, x):
    before = run(model, x)
    classes = {name: type(module) for name, module in model.named_modules()}
    keys = list(model.state_dict())
    apply_patch(model, R)
    run(model, x)
    model.train()
    remove_patch(model)
    assert all(module.training for module in model.modules())
    model.eval()
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert list(model.state_dict()) == keys
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(run(model, x), before)
    assert not hasattr(model, "r")


def test_state_dict_keys_never_change(case, model, x):
    plain = copy.deepcopy(model.state_dict())
    apply_patch(model, R)
    assert list(model.state_dict()) == list(plain)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in case.build().named_parameters()]
    merged = run(model, x)
    other = apply_patch(case.build().eval(), R)
    other.load_state_dict(plain)
    assert torch.equal(run(other, x), merged)
    bare = case.build().eval()
    bare.load_state_dict(model.state_dict())
    assert torch.equal(run(bare, x), run(remove_patch(model), x))


def test_copies_are_independent(model, x):
    apply_patch(model, R)
    expected = run(model, x)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = {
        "deepcopy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
        "torch.save": torch.load(buffer, weights_only=False),
    }
    for how, twin in copies.items():
        assert type(twin) is type(model), how
        assert torch.equal(run(twin, x), expected), how
        twin.r = 0
        assert torch.equal(run(model, x), expected), f"the {how} shares its r with the model"
        assert not torch.equal(run(twin, x), expected), how
        remove_patch(twin)


def test_threads_give_what_single_calls_give(case, model):
    apply_patch(model, R)
    inputs = [torch.randn(1 + i % 3, *case.input_shape) for i in range(8)]
    expected = [run(model, x) for x in inputs]
    results = [None] * 8
    barrier = threading.Barrier(8)

    def work(i):
        barrier.wait()
        for _ in range(5):
            results[i] = run(model, inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, wanted in zip(results, expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_gradients_are_equal(case, model, x, use_reentrant):
    apply_patch(model, R).train()

    def gradients():
        model.zero_grad()
        logits(model(x.clone().requires_grad_())).square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    case.checkpointing(model, use_reentrant)
    checkpointed = gradients()
    assert checkpointed.keys() == plain.keys() and len(plain) > 10
    for name, gradient in plain.items():
        assert torch.equal(checkpointed[name], gradient), name


def test_repeated_calls_and_forward_features(model, x):
    apply_patch(model, R)
    first = run(model, x)
    if hasattr(model, "forward_features"):
        features = model.forward_features(x)
        assert torch.equal(model.forward_features(x), features)
    assert torch.equal(run(model, x), first)


def test_batch_equals_single_clips(case, model):
    apply_patch(model, R)
    x = torch.randn(3, *case.input_shape)
    alone = torch.cat([run(model, clip[None]) for clip in x])
    assert torch.allclose(run(model, x), alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(case, model, x, dtype):
    apply_patch(model, R)
    with trace(model) as traces, torch.autocast("cpu", dtype=dtype):
        y = run(model, x)
    assert y.isfinite().all()
    assert traces[0].sizes[-1].dtype == torch.float32
    assert traces[0].tokens == list(describe(model, case.n_tokens).tokens)
    assert torch.equal(traces[0].sizes[-1].sum(1), torch.full((2,), float(case.n_tokens)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(model, x, dtype):
    apply_patch(model, R).to(dtype)
    y = run(model, x.to(dtype))
    assert y.dtype == dtype and y.isfinite().all()


def test_deterministic_mode(model, x):
    apply_patch(model, R)
    expected = run(model, x)
    torch.use_deterministic_algorithms(True)
    try:
        model.train()
        logits(model(x)).sum().backward()
        model.eval()
        assert torch.equal(run(model, x), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_compiles_to_one_graph_without_recompiling(model, x):
    apply_patch(model, R)
    expected = run(model, x)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        for _ in range(3):
            assert torch.allclose(logits(compiled(x)), expected, atol=1e-6)
        assert torch.allclose(logits(compiled(x + 1)), run(model, x + 1), atol=1e-6)


def test_hooks_of_the_blocks_still_fire(model, x):
    apply_patch(model, R)
    shapes = []
    (encoder, adapter) = next(find_encoders(model))
    for block in encoder._modules[adapter.blocks]._modules.values():
        block.register_forward_hook(lambda module, args, output: shapes.append(output.shape[1]))
    run(model, x)
    assert len(shapes) == DEPTH


def test_blocks_still_look_like_blocks(model):
    (encoder, adapter) = next(find_encoders(model))
    plain = list(getattr(encoder, adapter.blocks))
    apply_patch(model, R)
    blocks = getattr(encoder, adapter.blocks)
    assert len(blocks) == DEPTH and blocks[0] is plain[0] and blocks[-1] is plain[-1]
    assert isinstance(blocks[0], type(plain[0])) and list(blocks.children()) == plain
    assert [step.training for step in blocks] == [block.training for block in plain]
    assert len(blocks[:2]) == 2


def test_unmerge_gives_every_token_back(case, model, x):
    merged = run(apply_patch(model, R), x)
    apply_patch(model, R, unmerge=True)
    (encoder, adapter) = next(find_encoders(model))
    shapes = []
    for block in getattr(encoder, adapter.blocks)._modules.values():
        block.register_forward_hook(lambda module, args, output: shapes.append(output.shape[1]))
    assert torch.allclose(run(model, x), merged, atol=1e-5)
    assert shapes == [case.n_tokens] * DEPTH


def test_clamping_is_reported(case, model, x):
    apply_patch(model, 1000)
    with pytest.warns(MergeClampWarning, match=f"{case.n_tokens} tokens allow"):
        run(model, x)
    report = describe(model, case.n_tokens)
    assert report.is_clamped and report.merged[0] == (case.n_tokens - case.n_prefix) // 2 and report.macs_cut > 1


def test_a_lone_block_says_that_it_merges_nothing(model):
    apply_patch(model, R)
    (encoder, adapter) = next(find_encoders(model))
    block = getattr(encoder, adapter.blocks)[0]
    width = adapter.projection(block, "key").in_features
    with pytest.warns(UserWarning, match="merges nothing"):
        block(torch.randn(1, 30, width))


def test_masks_are_refused_while_tokens_merge(model):
    apply_patch(model, R)
    (encoder, adapter) = next(find_encoders(model))
    blocks = getattr(encoder, adapter.blocks)
    width = adapter.projection(blocks[0], "key").in_features
    step = next(iter(blocks))
    with pytest.raises(ValueError, match=r"set model\.r = 0"):
        step(torch.randn(1, 30, width), torch.zeros(1, 1, 30, 30))


def test_the_report_counts_the_layers_of_the_model(case, model):
    """The MACs reported are those of the model's own linear layers and the two attention products."""
    apply_patch(model, R)
    (encoder, adapter) = next(find_encoders(model))
    block = getattr(encoder, adapter.blocks)[0]
    linear = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
    width = adapter.attention_width(block)
    n = case.n_tokens
    assert describe(model, n).macs_unmerged[0] == n * linear + 2 * n * n * width
    assert describe(model, n).macs_cut > 1
