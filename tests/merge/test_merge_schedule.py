import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tome_audio.merge import (
    BlockCost,
    check_rate,
    clamp_schedule,
    encoder_macs,
    expand_schedule,
    max_r,
    tokens_per_layer,
)


def test_published_schedules():
    assert expand_schedule(16, 3) == (16, 16, 16)
    assert expand_schedule([5, 4], 4) == (5, 4, 0, 0)
    assert expand_schedule((16, -1), 12) == (32, 29, 26, 23, 20, 17, 14, 11, 8, 5, 2, 0)
    assert expand_schedule((40, -0.5), 12) == (60, 56, 52, 49, 45, 41, 38, 34, 30, 27, 23, 20)
    assert expand_schedule((8, 1), 1) == (8,)


@given(r=st.integers(0, 500), inflection=st.floats(-1, 1), depth=st.integers(1, 48))
def test_inflected_schedules_never_merge_more_than_the_mean(r, inflection, depth):
    schedule = expand_schedule((r, inflection), depth)
    assert len(schedule) == depth and min(schedule) >= 0
    assert r * depth - depth <= sum(schedule) <= r * depth + 1


@pytest.mark.parametrize(
    "bad", [-1, 1.5, True, "8", None, [4, -1], [2, 0.5], (8, 2.0), (8, float("nan")), (8,), (1, 2, 3), (8, True)]
)
def test_bad_rates_are_named(bad):
    with pytest.raises(ValueError, match="r="):
        check_rate(bad)


def test_numpy_integers_are_integers():
    assert check_rate(np.int64(8)) == 8
    assert check_rate((np.int64(2), np.float32(0.5))) == (2, 0.5)
    assert check_rate([np.int64(8), 2]) == [8, 2]


def test_a_list_longer_than_the_model_is_an_error():
    with pytest.raises(ValueError, match="r lists 3 layers but the model has 2"):
        expand_schedule([1, 2, 3], 2)


@pytest.mark.parametrize(("n_tokens", "left"), [(5, 4), (6, 4), (7, 5), (8, 5), (146, 74)])
def test_at_most_half_of_the_patches_go(n_tokens, left):
    assert n_tokens - max_r(n_tokens, 2) == left


def test_clamping():
    assert clamp_schedule((60, 60, 60), 99, 1) == (49, 24, 12)
    assert tokens_per_layer((60, 60, 60), 99, 1) == (99, 50, 26, 14)
    assert tokens_per_layer((3, 3), 2, 2) == (2, 2, 2)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(2, 300))
def test_macs_count_every_product(schedule, n_tokens):
    """Against a count that walks over the layers one multiplication at a time."""
    width, hidden = 6, 10
    tokens = tokens_per_layer(schedule, n_tokens, 2)
    cost = BlockCost(4 * width * width, 2 * width * hidden, width)
    count = 0
    for before, after in itertools.pairwise(tokens):
        count += before * width * 3 * width  # q, k, v
        count += before * before * width  # scores
        count += before * before * width  # weighted values
        count += before * width * width  # output projection
        count += after * width * hidden + after * hidden * width  # feed-forward
    assert encoder_macs([cost] * len(schedule), tokens) == count


def test_macs_of_published_models():
    """Figures of AST and ViT encoders as worked out by hand in the literature notes: 12 blocks, width 768."""
    blocks = [BlockCost(4 * 768 * 768, 8 * 768 * 768, 768)] * 12
    full = encoder_macs(blocks, [1214] * 13)
    assert round(full / 1e9, 1) == 130.3
    cut = {r: full / encoder_macs(blocks, tokens_per_layer([r] * 12, 1214, 2)) for r in (16, 32, 40, 64, 80)}
    assert {r: round(c, 2) for r, c in cut.items()} == {16: 1.10, 32: 1.22, 40: 1.29, 64: 1.55, 80: 1.77}


def test_macs_need_one_more_count_than_blocks():
    with pytest.raises(ValueError, match="2 blocks need 3 token counts, got 2"):
        encoder_macs([BlockCost(1, 1, 1)] * 2, [3, 2])
