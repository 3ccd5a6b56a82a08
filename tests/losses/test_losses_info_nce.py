"""InfoNCE against a plain loop in float64, against SupCon of pytorch-metric-learning, and what it refuses."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss

from tome_audio.losses import info_nce

GENERATOR = torch.Generator().manual_seed(0)
ANCHORS, CANDIDATES = torch.randn(5, 8, generator=GENERATOR), torch.randn(7, 8, generator=GENERATOR)
POSITIVES = torch.zeros(5, 7, dtype=torch.bool)
POSITIVES[torch.arange(5), torch.arange(5)] = True
POSITIVES[:3, 6] = True


def naive(anchors, candidates, positives, temperature):
    a, c = (
        x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (anchors, candidates)
    )
    total = 0.0
    for i in range(len(a)):
        e = np.exp([a[i] @ c[j] / temperature for j in range(len(c))])
        own = [j for j in range(len(c)) if positives[i, j]]
        total -= np.mean([np.log(e[j] / e.sum()) for j in own])
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_against_a_plain_loop(temperature):
    found = info_nce(ANCHORS, CANDIDATES, POSITIVES, temperature=temperature)
    assert float(found) == pytest.approx(naive(ANCHORS, CANDIDATES, POSITIVES, temperature), rel=1e-5)


def test_against_the_library():
    labels, others = torch.arange(5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    positives = labels[:, None] == others
    expected = SupConLoss(temperature=0.1)(ANCHORS, labels, ref_emb=CANDIDATES, ref_labels=others)
    assert float(info_nce(ANCHORS, CANDIDATES, positives, temperature=0.1)) == pytest.approx(float(expected), rel=1e-5)


def test_length_does_not_count_and_half_precision_is_widened():
    expected = info_nce(ANCHORS, CANDIDATES, POSITIVES, temperature=0.1)
    assert torch.isclose(info_nce(ANCHORS * 9, CANDIDATES / 7, POSITIVES, temperature=0.1), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(ANCHORS, CANDIDATES, POSITIVES, temperature=0.1), expected)


def test_gradients():
    anchors, candidates = (x.double().requires_grad_() for x in (ANCHORS[:3].clone(), CANDIDATES.clone()))
    assert torch.autograd.gradcheck(lambda a, c: info_nce(a, c, POSITIVES[:3], temperature=0.3), (anchors, candidates))


@pytest.mark.parametrize(
    ("anchors", "positives", "temperature", "said"),
    [
        (ANCHORS, POSITIVES & False, 0.1, "anchor 0 has no positive"),
        (ANCHORS, POSITIVES[:, :3], 0.1, "positives must be bool"),
        (ANCHORS, POSITIVES.float(), 0.1, "positives must be bool"),
        (ANCHORS[:, :4], POSITIVES, 0.1, "anchors and candidates"),
        (ANCHORS.long(), POSITIVES, 0.1, "anchors and candidates"),
        (ANCHORS, POSITIVES, 0.0, "temperature"),
    ],
)
def test_what_does_not_fit_is_named(anchors, positives, temperature, said):
    with pytest.raises(ValueError, match=said):
        info_nce(anchors, CANDIDATES, positives, temperature=temperature)
