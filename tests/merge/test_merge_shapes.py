"""Schedules and compute targets: what they come to, and what they refuse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.merge import (
    SHAPES,
    Amounts,
    BlockCost,
    ComputeTarget,
    Schedule,
    before_matching,
    encoder_macs,
    macs_cut,
    max_r,
    reachable_cut,
    resolve_rate,
)


def blocks(depth, width=64):
    return tuple(BlockCost(4 * width**2, 8 * width**2, width, 2 * width**2) for _ in range(depth))


@given(
    shape=st.sampled_from(SHAPES), cut=st.floats(1, 2.5), depth=st.integers(3, 24), n_patches=st.integers(30, 400),
    n_prefix=st.integers(0, 3), cuts_last=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_target_is_reached_and_not_by_much(shape, cut, depth, n_patches, n_prefix, cuts_last):
    costs, n_tokens = blocks(depth), n_patches + n_prefix
    last = max(n_prefix, 1) if cuts_last else None
    try:
        amounts = resolve_rate(ComputeTarget(cut, shape), n_tokens, n_prefix, costs, last_queries=last)
    except ValueError as error:
        assert "is the most" in str(error)
        return
    reached = macs_cut(amounts, n_tokens, costs, last_queries=last)
    assert reached >= cut or cut == 1
    tokens = amounts.tokens(n_tokens)
    assert tokens[-1] >= n_prefix + 1 and list(tokens) == sorted(tokens, reverse=True)
    assert len(amounts.blocks) == depth and (last is None or amounts.blocks[-1] == 0)
    left = n_tokens
    for r in amounts.before:
        assert r <= max_r(left, n_prefix)
        left -= r


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [None, 1])
def test_the_reachable_cut_is_reached_and_no_more(shape, last):
    costs = blocks(5)
    most = reachable_cut(60, 1, costs, shape=shape, last_queries=last)
    amounts = resolve_rate(ComputeTarget(most, shape), 60, 1, costs, last_queries=last)
    assert macs_cut(amounts, 60, costs, last_queries=last) == most > 1
    with pytest.raises(ValueError, match=f"{most:.2f} is the most"):
        resolve_rate(ComputeTarget(most * 1.001, shape), 60, 1, costs, last_queries=last)


@given(n_patches=st.integers(12, 400), cut=st.floats(1.05, 3.0))
@settings(max_examples=40, deadline=None)
def test_rounds_are_six_of_about_the_same_number(n_patches, cut):
    costs = blocks(12)
    amounts = resolve_rate(ComputeTarget(cut, "rounds"), n_patches + 1, 1, costs)
    assert not any(amounts.blocks) and len(amounts.before) <= 6
    if 6 <= sum(amounts.before) < 0.7 * n_patches:
        assert len(amounts.before) == 6 and max(amounts.before) - min(amounts.before) <= 1
    assert before_matching(ComputeTarget(cut, "rounds")) == "bipartite"


def test_the_shape_of_a_target_follows_the_grid():
    assert ComputeTarget(2).on_grid(1) == "front-loaded" and ComputeTarget(2).on_grid(12) == "rounds"
    assert ComputeTarget(2, "constant").on_grid(12) == "constant"
    costs = blocks(12)
    for rows, shape in ((1, "front-loaded"), (12, "rounds")):
        assert resolve_rate(ComputeTarget(2), 145, 1, costs, rows=rows) == resolve_rate(
            ComputeTarget(2, shape), 145, 1, costs
        )
        assert reachable_cut(145, 1, costs, rows=rows) == reachable_cut(145, 1, costs, shape=shape)


def test_the_cut_is_that_of_the_macs():
    costs, amounts = blocks(4), Amounts((10,), (5, 0, 3, 0))
    tokens = (31 - 10, 16, 16, 13, 13)
    assert amounts.tokens(31) == tokens
    assert macs_cut(amounts, 31, costs) == encoder_macs(costs, [31] * 5) / encoder_macs(costs, tokens)


def test_the_default_shape_merges_neighbours_first():
    gentle = resolve_rate(ComputeTarget(1.5), 99, 1, blocks(12))
    assert gentle.before and not any(gentle.blocks)
    strong = resolve_rate(ComputeTarget(5), 99, 1, blocks(12))
    assert strong.before[0] == 49 and len(strong.before) == 2
    assert list(strong.blocks) == sorted(strong.blocks, reverse=True) and strong.blocks[0] > 0


@pytest.mark.parametrize("shape", ["constant", "decreasing"])
def test_the_plain_shapes_merge_half_at_most_like_a_number(shape):
    amounts = resolve_rate(ComputeTarget(4, shape), 99, 1, blocks(12))
    left = 99
    for r in amounts.blocks:
        assert r <= max_r(left, 1)
        left -= r


def test_no_target_merges_nothing():
    assert not resolve_rate(ComputeTarget(1), 99, 1, blocks(12)).merges


def test_out_of_reach_names_the_most():
    with pytest.raises(ValueError, match=r"1000 times fewer MACs are out of reach .* 99 tokens: \d+\.\d\d is the most"):
        resolve_rate(ComputeTarget(1000), 99, 1, blocks(12))


def test_a_schedule_is_clamped_to_what_there_is():
    amounts = resolve_rate(Schedule((40, 40), (60,)), 99, 1, blocks(3))
    assert amounts == Amounts((49,), (40, 8, 0))
    assert resolve_rate(Schedule((3,)), 99, 1, blocks(1), last_queries=1).blocks == (0,)


@pytest.mark.parametrize("bad", [0.5, float("nan"), float("inf"), "3", True])
def test_bad_targets(bad):
    with pytest.raises(ValueError, match="is not understood"):
        ComputeTarget(bad)


def test_bad_schedules():
    with pytest.raises(ValueError, match="shape='round' is unknown"):
        ComputeTarget(2, "round")
    with pytest.raises(ValueError, match="before_matching='key'"):
        Schedule((1,), before_matching="key")
    with pytest.raises(ValueError, match="not understood"):
        Schedule((-1,))
    with pytest.raises(ValueError, match="lists 3 layers but the model has 2"):
        resolve_rate(Schedule((1, 1, 1)), 99, 1, blocks(2))
