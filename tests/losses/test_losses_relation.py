"""The relation loss against a loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.losses import relation_loss


@given(n_episodes=st.integers(1, 3), n_classes=st.integers(1, 4), n_queries=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_it_is_the_formula(n_episodes, n_classes, n_queries):
    scores = torch.rand(n_episodes, n_classes, n_queries, n_classes, dtype=torch.float64)
    errors = [
        (score - (k == of)) ** 2
        for episode in scores.tolist()
        for of, queries in enumerate(episode)
        for query in queries
        for k, score in enumerate(query)
    ]
    assert relation_loss(scores).item() == pytest.approx(sum(errors) / len(errors), rel=1e-12)


def test_half_precision_computes_in_float32():
    scores = torch.rand(2, 3, 4, 3).bfloat16().requires_grad_()
    loss = relation_loss(scores)
    assert torch.equal(loss, relation_loss(scores.float()))
    loss.backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.rand(3, 4, 3), r"\(episodes, classes, queries per class, classes\)"),
        (torch.rand(1, 3, 4, 2), r"shape \(1, 3, 4, 2\)"),
        (torch.ones(1, 3, 4, 3, dtype=torch.int64), "floating-point"),
        (3 * torch.ones(1, 3, 4, 3), "from 0 to 1, got 3 to 3: is a sigmoid missing"),
        (torch.full((1, 2, 1, 2), math.nan), "from 0 to 1"),
    ],
)
def test_bad_scores_are_named(scores, message):
    with pytest.raises(ValueError, match=message):
        relation_loss(scores)
