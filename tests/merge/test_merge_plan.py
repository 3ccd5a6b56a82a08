import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.merge import (
    MATCHINGS,
    compose,
    identity_plan,
    max_r,
    merge_tokens,
    plan_from_pairs,
    size_bias,
    source_matrix,
    unmerge_tokens,
)

shapes = st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(0, 15), st.integers(0, 8), st.integers(0, 999))


def draw_plan(shape, matching="bipartite"):
    """A plan from random keys: batch, prefix, patches, wanted r and seed come from hypothesis."""
    batch, n_prefix, n_patches, wanted, seed = shape
    generator = torch.Generator().manual_seed(seed)
    n_tokens = n_prefix + n_patches
    metric = torch.randn(batch, n_tokens, 5, generator=generator, dtype=torch.float64)
    r = min(wanted, max_r(n_tokens, n_prefix))
    return MATCHINGS[matching](metric, r, n_prefix=n_prefix), metric, r, generator


@pytest.mark.parametrize("matching", MATCHINGS)
@given(shape=shapes)
@settings(max_examples=60, deadline=None)
def test_invariants(matching, shape):
    plan, metric, r, generator = draw_plan(shape, matching)
    batch, n_tokens = metric.shape[:2]
    n_prefix = shape[1]
    x = torch.randn(batch, n_tokens, 3, generator=generator, dtype=torch.float64)
    merged, size = merge_tokens(plan, x)

    assert plan.assign.shape == (batch, n_tokens) and plan.assign.dtype == torch.int64
    assert plan.n_out == n_tokens - r == merged.shape[1]
    for row in plan.assign:  # every slot is used, so no token is lost and none is invented
        assert set(row.tolist()) == set(range(plan.n_out))
    assert torch.equal(plan.assign[:, :n_prefix], torch.arange(n_prefix).expand(batch, -1))
    assert (plan.assign[:, n_prefix:] >= n_prefix).all(), "a patch merged into a prefix token"
    assert torch.equal(merged[:, :n_prefix], x[:, :n_prefix])
    assert torch.equal(size.sum(1), torch.full((batch,), float(n_tokens), dtype=size.dtype))
    assert torch.allclose((merged * size[..., None]).sum(1), x.sum(1))
    assert torch.equal(
        unmerge_tokens(plan, merged).gather(1, torch.arange(n_prefix).expand(batch, -1)[..., None].expand(-1, -1, 3)),
        x[:, :n_prefix],
    )
    if r == 0:
        assert torch.equal(merged, x) and torch.equal(plan.assign, identity_plan(batch, n_tokens).assign)


@given(shape=shapes, second=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_composition_is_doing_both(shape, second):
    first, metric, _, generator = draw_plan(shape)
    n_prefix = shape[1]
    x = torch.randn(*metric.shape, generator=generator, dtype=torch.float64)
    once, size = merge_tokens(first, x)
    r = min(second, max_r(first.n_out, n_prefix))
    then = MATCHINGS["bipartite"](once, r, n_prefix=n_prefix)
    twice, sizes = merge_tokens(then, once, size)
    both = compose(first, then)
    direct, direct_sizes = merge_tokens(both, x)
    assert torch.allclose(direct, twice) and torch.equal(direct_sizes, sizes)
    assert torch.equal(unmerge_tokens(both, direct), unmerge_tokens(first, unmerge_tokens(then, direct)))
    matrix = source_matrix(both)
    assert torch.equal(matrix.sum(1), torch.ones(metric.shape[:2], dtype=matrix.dtype).long())
    assert torch.equal(matrix.sum(2).to(sizes.dtype), sizes)


def test_compose_needs_consecutive_plans():
    with pytest.raises(ValueError, match="leaves 4 tokens, the second starts from 5"):
        compose(identity_plan(1, 4), identity_plan(1, 5))


def test_sizes_weigh_the_mean():
    plan = plan_from_pairs(torch.tensor([[0, 3]]), torch.tensor([[1, 1]]), 4)
    x = torch.tensor([[[1.0], [4.0], [10.0], [7.0]]])
    merged, size = merge_tokens(plan, x, torch.tensor([[3.0, 1.0, 5.0, 2.0]]))
    assert merged.flatten().tolist() == [(3 * 1 + 4 + 2 * 7) / 6, 10.0]
    assert size.tolist() == [[6.0, 5.0]]


def test_size_zero_never_moves_a_mean_and_an_empty_group_keeps_its_token():
    plan = plan_from_pairs(torch.tensor([[0, 2]]), torch.tensor([[1, 3]]), 4)
    x = torch.tensor([[[9.0], [4.0], [5.0], [6.0]]])
    merged, size = merge_tokens(plan, x, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    assert merged.flatten().tolist() == [4.0, 6.0] and size.tolist() == [[1.0, 0.0]]
    assert size_bias(size, torch.float32).tolist() == [[[[0.0, -np.inf]]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype):
    """2048 + 1 is 2048 in half precision: a mean summed there would lose every small token."""
    n_tokens = 600
    plan = plan_from_pairs(torch.arange(1, n_tokens)[None], torch.zeros(1, n_tokens - 1, dtype=torch.int64), n_tokens)
    x = torch.full((1, n_tokens, 1), 30.0, dtype=dtype)
    merged, size = merge_tokens(plan, x)
    assert merged.dtype == dtype and merged.item() == 30.0
    assert size.dtype == torch.float32 and size.item() == n_tokens


def test_gradient_of_a_mean():
    plan = plan_from_pairs(torch.tensor([[0]]), torch.tensor([[1]]), 3)
    x = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: merge_tokens(plan, t, torch.tensor([[1.0, 3.0, 1.0]]))[0], x)


def test_wrong_shapes_are_named():
    plan = identity_plan(2, 5)
    with pytest.raises(ValueError, match=r"expects tokens of shape \(2, 5, C\), got \(2, 4, 3\)"):
        merge_tokens(plan, torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"size must be \(2, 5\)"):
        merge_tokens(plan, torch.zeros(2, 5, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="expects tokens"):
        unmerge_tokens(plan, torch.zeros(1, 5, 3))
