"""Repeated matching, and clips of different lengths in one batch, against one clip at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.merge import (
    MATCHINGS,
    bipartite_match,
    compose,
    match_each,
    match_each_in_rounds,
    match_repeatedly,
    merge_tokens,
    pack_plan,
)


def alone(matching, metric, r, n_prefix, seed=0):
    options = {"seed": seed} if matching == "random" else {}
    return MATCHINGS[matching](metric, r, n_prefix=n_prefix, **options)


@given(n_prefix=st.integers(0, 2), n_patches=st.integers(2, 40), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_more_than_half_goes_by_several_matchings(n_prefix, n_patches, share, seed):
    generator = torch.Generator().manual_seed(seed)
    metric = torch.randn(2, n_prefix + n_patches, 4, generator=generator, dtype=torch.float64)
    r = int(share * (n_patches - 1))
    plan = match_repeatedly(lambda m, k: bipartite_match(m, k, n_prefix=n_prefix), metric, r, n_prefix=n_prefix)
    assert plan.n_out == n_prefix + n_patches - r
    merged, size = merge_tokens(plan, metric)
    assert torch.allclose((merged * size[..., None]).sum(1), metric.sum(1))
    assert torch.equal(merged[:, :n_prefix], metric[:, :n_prefix])
    if r <= n_patches // 2:
        assert torch.equal(plan.assign, bipartite_match(metric, r, n_prefix=n_prefix).assign)


def test_the_last_token_stays():
    with pytest.raises(ValueError, match="of 5 tokens with 1 prefix tokens one must stay"):
        match_repeatedly(lambda m, k: bipartite_match(m, k), torch.randn(1, 5, 3), 4, n_prefix=1)


@pytest.mark.parametrize("matching", MATCHINGS)
@given(
    n_prefix=st.integers(0, 2), patches=st.lists(st.integers(1, 24), min_size=1, max_size=4), wanted=st.integers(0, 14),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_each_clip_gets_the_pairs_it_gets_alone(matching, n_prefix, patches, wanted, seed):
    generator = torch.Generator().manual_seed(seed)
    counts = [n_prefix + n for n in patches]
    n_tokens = max(counts)
    x = torch.randn(len(counts), n_tokens, 4, generator=generator, dtype=torch.float64)
    size = (torch.arange(n_tokens) < torch.tensor(counts)[:, None]).double()
    r = [min(wanted, n // 2) if clip % 2 else n // 3 for clip, n in enumerate(patches)]
    plan = match_each(matching, x, r, counts, n_prefix=n_prefix, seed=seed)
    merged, sizes = merge_tokens(plan, x, size)
    assert plan.n_out == max(count - amount for count, amount in zip(counts, r, strict=True))
    for clip, (count, amount) in enumerate(zip(counts, r, strict=True)):
        own = alone(matching, x[clip : clip + 1, :count], amount, n_prefix, seed)
        expected, expected_size = merge_tokens(own, x[clip : clip + 1, :count])
        left = count - amount
        assert torch.allclose(merged[clip, :left], expected[0], atol=1e-12)
        assert torch.equal(sizes[clip, :left], expected_size[0])
        assert not sizes[clip, left:].any(), "padding has a size, or a token of the clip stands behind it"


def test_each_in_rounds_is_one_clip_at_a_time():
    x, counts = torch.randn(3, 20, 4, dtype=torch.float64), [20, 11, 6]
    sizes = (torch.arange(20) < torch.tensor(counts)[:, None]).double()
    r, merged = [14, 8, 1], x
    plans = list(match_each_in_rounds("bipartite", x, r, counts, sizes, n_prefix=1))
    for plan in plans:
        merged, sizes = merge_tokens(plan, merged, sizes)
    assert len(plans) == 3
    for clip, (count, amount) in enumerate(zip(counts, r, strict=True)):
        part = x[clip : clip + 1, :count]
        own = match_repeatedly(lambda m, k: bipartite_match(m, k, n_prefix=1), part, amount, n_prefix=1)
        expected, expected_size = merge_tokens(own, part)
        assert torch.allclose(merged[clip, : count - amount], expected[0], atol=1e-12)
        assert torch.equal(sizes[clip, : count - amount], expected_size[0]) and not sizes[clip, count - amount :].any()
        whole = compose(compose(plans[0], plans[1]), plans[2])
        assert torch.equal(whole.assign[clip, :count], own.assign[0])


@given(
    n_prefix=st.integers(0, 2), n_patches=st.integers(2, 30), share=st.floats(0, 1), rounds=st.integers(1, 5),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_r_is_split_evenly_over_rounds(n_prefix, n_patches, share, rounds, seed):
    generator = torch.Generator().manual_seed(seed)
    metric = torch.randn(1, n_prefix + n_patches, 4, generator=generator, dtype=torch.float64)
    r, asked = int(share * (n_patches // 2)), []

    def match(x, amount):
        asked.append(amount)
        return bipartite_match(x, amount, n_prefix=n_prefix)

    plan = match_repeatedly(match, metric, r, n_prefix=n_prefix, rounds=rounds)
    assert sum(asked) == r and max(asked) - min(asked) <= 1 and len(asked) == max(1, min(r, rounds))
    x, sizes, by_hand = metric, None, None
    for amount in asked:
        step = bipartite_match(x, amount, n_prefix=n_prefix)
        by_hand = step if by_hand is None else compose(by_hand, step)
        x, sizes = merge_tokens(step, x, sizes)
    assert torch.equal(plan.assign, by_hand.assign)
    counts, ones = [metric.shape[1]], torch.ones(metric.shape[:2], dtype=torch.float64)
    options = {"n_prefix": n_prefix, "rounds": rounds}
    merged, size = metric, ones
    for step in match_each_in_rounds("bipartite", metric, [r], counts, ones, **options):
        merged, size = merge_tokens(step, merged, size)
    assert torch.allclose(merged, x, atol=1e-12)


def test_too_many_in_rounds_is_named():
    with pytest.raises(ValueError, match="r=4 cannot be merged: of 5 tokens with 1 prefix tokens one must stay"):
        list(match_each_in_rounds("bipartite", torch.randn(1, 5, 3), [4], [5], torch.ones(1, 5), n_prefix=1))


def test_packing_keeps_the_clip_and_its_order():
    valid = torch.tensor([[True, False, True, False, True], [True, True, False, False, False]])
    x = torch.arange(10.0).reshape(2, 5, 1)
    packed, size = merge_tokens(pack_plan(valid), x, valid.float())
    assert packed[0].flatten().tolist() == [0, 2, 4] and size.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert packed[1, :2].flatten().tolist() == [5, 6]


def test_counts_must_fit():
    with pytest.raises(ValueError, match="counts at most 5"):
        match_each("bipartite", torch.randn(1, 5, 2), [1], [6])
    with pytest.raises(ValueError, match="allow 0 to 2"):
        match_each("bipartite", torch.randn(1, 8, 2), [3], [5])
