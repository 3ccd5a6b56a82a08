import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.merge import SimilarityThreshold, check_rate, common_amount, count_similar, expand_schedule, max_r


def naive_counts(matching, metric, threshold, n_prefix, counts):
    """Count with loops in float64: tokens at even places with a partner at an odd place above the threshold."""
    unit = torch.nn.functional.normalize(metric.double(), dim=-1)
    found = []
    for clip, count in enumerate(counts):
        tokens, above = unit[clip, n_prefix:count], 0
        for i in range(0, len(tokens), 2):
            partners = range(1, len(tokens), 2) if matching == "bipartite" else (i - 1, i + 1)
            scores = [float(tokens[i] @ tokens[j]) for j in partners if 0 <= j < len(tokens)]
            above += bool(scores) and max(scores) > threshold
        found.append(min(above, max_r(count, n_prefix)))
    return found


@pytest.mark.parametrize("matching", ["bipartite", "adjacent"])
@pytest.mark.parametrize("n_prefix", [0, 1, 2])
@settings(deadline=None)
@given(n_tokens=st.integers(3, 12), threshold=st.floats(-0.9, 0.9), seed=st.integers(0, 99))
def test_counts_are_those_of_loops(matching, n_prefix, n_tokens, threshold, seed):
    generator = torch.Generator().manual_seed(seed)
    metric = torch.randn(3, n_tokens, 4, generator=generator, dtype=torch.float64)
    whole = [n_tokens] * 3
    assert count_similar(matching, metric, threshold, n_prefix=n_prefix) == naive_counts(
        matching, metric, threshold, n_prefix, whole
    )
    counts = [n_tokens, max(n_prefix, n_tokens - 1), max(n_prefix, n_tokens // 2)]
    assert count_similar(matching, metric, threshold, n_prefix=n_prefix, counts=counts) == naive_counts(
        matching, metric, threshold, n_prefix, counts
    )


@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_the_common_amount_is_one_of_the_clips(counts, low, high):
    assert common_amount(counts, 0.0) == min(counts) and common_amount(counts, 1.0) == max(counts)
    assert common_amount(counts, low) in counts
    low, high = sorted((low, high))
    assert common_amount(counts, low) <= common_amount(counts, high)


def test_a_threshold_is_a_rate_without_numbers():
    rate = SimilarityThreshold([0.9, 0.8], before=0.95)
    assert check_rate(rate) is rate and rate == SimilarityThreshold((0.9, 0.8), (0.95,))
    assert rate.of_blocks(3) == (0.9, 0.8, None) and SimilarityThreshold(1).of_blocks(2) == (1.0, 1.0)
    with pytest.raises(ValueError, match="lists 2 blocks but the model has 1"):
        rate.of_blocks(1)
    with pytest.raises(ValueError, match="depends on the clip"):
        expand_schedule(rate, 3)


@pytest.mark.parametrize("bad", [2, -1.5, "0.9", True, None, float("nan"), [0.9, 3]])
def test_bad_thresholds_are_named(bad):
    with pytest.raises(ValueError, match=r"threshold=.* must be a cosine"):
        SimilarityThreshold(bad)
    with pytest.raises(ValueError, match=r"before=.* must be a cosine"):
        SimilarityThreshold(0.9, before=bad)


@pytest.mark.parametrize("bad", [-0.1, 1.1, "half", True, float("nan")])
def test_bad_quantiles_are_named(bad):
    with pytest.raises(ValueError, match=r"quantile=.* must be a number from 0 to 1"):
        SimilarityThreshold(0.9, quantile=bad)
