import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.merge import MATCHINGS, adjacent_match, bipartite_match, max_r, random_match, ward_match


def pairs_of(plan, n_prefix):
    """Read (source, target) back from the plan of one clip."""
    members = {}
    for token, slot in enumerate(plan.assign[0].tolist()):
        members.setdefault(slot, []).append(token)
    odd = {t for t in range(plan.assign.shape[1]) if t >= n_prefix and (t - n_prefix) % 2 == 1}
    pairs = set()
    for group in members.values():
        target = [t for t in group if t in odd] or group
        pairs |= {(t, target[0]) for t in group if t != target[0]}
    return pairs


@given(n_prefix=st.integers(0, 3), n_patches=st.integers(2, 17), wanted=st.integers(0, 9), seed=st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_bipartite_equals_the_naive_reference(n_prefix, n_patches, wanted, seed):
    metric = torch.randn(1, n_prefix + n_patches, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    r = min(wanted, max_r(n_prefix + n_patches, n_prefix))
    expected = reference.match(metric[0].numpy(), r, n_prefix)
    assert pairs_of(bipartite_match(metric, r, n_prefix=n_prefix), n_prefix) == set(expected)


@given(n_patches=st.integers(2, 17), wanted=st.integers(0, 9), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_adjacent_takes_the_better_neighbour(n_patches, wanted, seed):
    metric = torch.randn(1, 2 + n_patches, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    r = min(wanted, n_patches // 2)
    unit = torch.nn.functional.normalize(metric[0], dim=-1)
    best = []
    for a in range(2, 2 + n_patches, 2):
        near = [b for b in (a + 1, a - 1) if 3 <= b < 2 + n_patches]
        best.append(max(((unit[a] @ unit[b]).item(), a, b) for b in near))
    expected = {(a, b) for _, a, b in sorted(best, reverse=True)[:r]}
    assert pairs_of(adjacent_match(metric, r, n_prefix=2), 2) == expected


@given(n_prefix=st.integers(0, 3), n_patches=st.integers(2, 17), wanted=st.integers(0, 9), seed=st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_ward_equals_the_naive_reference(n_prefix, n_patches, wanted, seed):
    generator = torch.Generator().manual_seed(seed)
    metric = torch.randn(1, n_prefix + n_patches, 4, generator=generator, dtype=torch.float64)
    size = torch.randint(1, 20, metric.shape[:2], generator=generator).double()
    r = min(wanted, max_r(n_prefix + n_patches, n_prefix))
    expected = reference.match_ward(metric[0].numpy(), size[0].numpy(), r, n_prefix)
    assert pairs_of(ward_match(metric, r, n_prefix=n_prefix, size=size), n_prefix) == set(expected)
    same = ward_match(metric, r, n_prefix=n_prefix, size=torch.full_like(size, 3.0))
    assert torch.equal(same.assign, bipartite_match(metric, r, n_prefix=n_prefix).assign)
    assert torch.equal(ward_match(metric, r, n_prefix=n_prefix).assign, same.assign)


def test_ward_merges_the_small_pair_of_two_that_are_as_similar():
    metric = torch.tensor([[[1.0, 0.1], [1.0, 0.0], [0.1, 1.0], [0.0, 1.0]]])
    for heavy, leaves in ((0, 2), (2, 0)):
        size = torch.ones(1, 4)
        size[0, heavy] = size[0, heavy + 1] = 5.0
        assert pairs_of(ward_match(metric, 1, size=size), 0) == {(leaves, leaves + 1)}


def test_sizes_must_fit():
    with pytest.raises(ValueError, match=r"size must be \(1, 4\) like the metric, got \(1, 3\)"):
        ward_match(torch.zeros(1, 4, 2), 1, size=torch.ones(1, 3))


def test_ties_break_by_position():
    same = torch.ones(2, 11, 3)
    plan = bipartite_match(same, 3, n_prefix=1)
    assert pairs_of(plan, 1) == {(1, 2), (3, 2), (5, 2)}
    assert torch.equal(plan.assign[0], plan.assign[1])


@pytest.mark.parametrize("matching", ["bipartite", "adjacent", "ward"])
def test_zero_and_nan_keys_still_give_a_valid_plan(matching):
    metric = torch.randn(1, 9, 4)
    metric[0, 2] = 0
    metric[0, 5] = torch.nan
    plan = MATCHINGS[matching](metric, 4, n_prefix=1)
    assert set(plan.assign[0].tolist()) == set(range(5))


def test_random_is_seeded_and_the_same_for_every_clip():
    metric = torch.zeros(3, 21, 1)
    plan = random_match(metric, 5, n_prefix=1, seed=7)
    assert torch.equal(plan.assign, random_match(metric, 5, n_prefix=1, seed=7).assign)
    assert not torch.equal(plan.assign, random_match(metric, 5, n_prefix=1, seed=8).assign)
    assert torch.equal(plan.assign[0], plan.assign[2])


@pytest.mark.parametrize("matching", MATCHINGS)
def test_r_out_of_range_is_named(matching):
    with pytest.raises(ValueError, match="r=5 cannot be merged: 10 tokens with 2 prefix tokens allow 0 to 4"):
        MATCHINGS[matching](torch.zeros(1, 10, 3), 5, n_prefix=2)
    with pytest.raises(ValueError, match=r"metric must be \(B, N, C\)"):
        MATCHINGS[matching](torch.zeros(10, 3), 1)


def test_autocast_does_not_coarsen_the_scores():
    metric = torch.randn(1, 200, 64) * 1e-3 + 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = bipartite_match(metric, 40)
    assert torch.equal(inside.assign, bipartite_match(metric, 40).assign)
