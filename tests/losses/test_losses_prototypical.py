"""Prototypical losses against loops in float64 and against pytorch-metric-learning."""

import math

import pytest
import torch
from episode_arrays import cases, dot, draw, episodes, labelled, unit
from hypothesis import given, settings
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import NTXentLoss
from torch.nn import functional as F

from tome_audio.losses import cl2n, class_prototypes, pairwise_distances, prototypical_logits, prototypical_loss

KINDS = ("squared", "euclidean", "cosine")


def naive_distance(x, p, kind):
    if kind == "cosine":
        return 1 - dot(unit(x), unit(p))
    squared = sum((a - b) ** 2 for a, b in zip(x, p, strict=True))
    return squared if kind == "squared" else math.sqrt(squared)


def naive_loss(queries, prototypes, kind, temperature):
    losses = []
    for points, centres in zip(queries.tolist(), prototypes.tolist(), strict=True):
        for k, own in enumerate(points):
            for x in own:
                scores = [math.exp(-naive_distance(x, p, kind) / temperature) for p in centres]
                losses.append(-math.log(scores[k] / sum(scores)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", KINDS)
@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_distances_and_loss_are_the_formula(kind, case):
    queries, prototypes = draw(case)
    found = pairwise_distances(queries.flatten(1, 2), prototypes, kind)
    for e, points in enumerate(queries.flatten(1, 2).tolist()):
        for i, x in enumerate(points):
            for k, p in enumerate(prototypes[e].tolist()):
                assert found[e, i, k].item() == pytest.approx(naive_distance(x, p, kind), rel=1e-6, abs=1e-6)
    assert torch.equal(prototypical_logits(queries.flatten(1, 2), prototypes, kind, 2.5), -found / 2.5)
    loss = prototypical_loss(queries, prototypes, kind, 2.5)
    assert loss.item() == pytest.approx(naive_loss(queries, prototypes, kind, 2.5), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "distance"),
    [
        ("squared", LpDistance(normalize_embeddings=False, power=2)),
        ("euclidean", LpDistance(normalize_embeddings=False)),
        ("cosine", CosineSimilarity()),
    ],
)
def test_it_is_ntxent_of_queries_over_prototypes(kind, distance):
    queries, prototypes = episodes()
    points, labels, centres, classes = labelled(queries, prototypes)
    wanted = NTXentLoss(1.7, distance=distance)(points, labels, ref_emb=centres, ref_labels=classes)
    assert prototypical_loss(queries, prototypes, kind, 1.7).item() == pytest.approx(wanted.item(), rel=1e-8)


def test_prototypes_are_means_and_episodes_do_not_mix():
    support = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    prototypes = class_prototypes(support)
    assert torch.allclose(prototypes[1, 2], sum(support[1, 2, k] for k in range(4)) / 4, rtol=1e-12)
    queries, prototypes = episodes(n_episodes=2)
    alone = [prototypical_loss(queries[[e]], prototypes[[e]]) for e in range(2)]
    assert torch.allclose(prototypical_loss(queries, prototypes), torch.stack(alone).mean(), rtol=1e-12)


def test_clouds_far_from_zero_keep_their_digits():
    queries, prototypes = (x.float() for x in episodes())
    near = pairwise_distances(queries.flatten(1, 2), prototypes)
    far = pairwise_distances(queries.flatten(1, 2) + 1024, prototypes + 1024)
    assert torch.allclose(near, far, atol=5e-3)
    raw = queries.flatten(1, 2) + 1024
    plain = raw.square().sum(-1)[..., None] + (prototypes + 1024).square().sum(-1)[:, None]
    plain = plain - 2 * raw @ (prototypes + 1024).mT
    assert (plain - near).abs().max() > 0.1  # what moving both sides saves


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_where_a_query_is_its_prototype(kind):
    _, prototypes = episodes()
    prototypes = prototypes.float().requires_grad_()
    queries = prototypes.detach()[:, :, None].clone().requires_grad_()
    prototypical_loss(queries, prototypes, kind).backward()
    assert queries.grad.isfinite().all() and prototypes.grad.isfinite().all()
    assert prototypes.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_and_autocast_compute_in_float32(kind):
    queries, prototypes = (x.bfloat16() for x in episodes())
    wanted = prototypical_loss(queries.float(), prototypes.float(), kind)
    assert torch.equal(prototypical_loss(queries, prototypes, kind), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototypical_loss(queries.float(), prototypes, kind), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    queries, prototypes = episodes(n_classes=3, n_queries=2, size=3)
    inputs = queries.requires_grad_(), prototypes.requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p: prototypical_loss(q, p, kind, 0.8), inputs)


def test_cl2n_is_centred_and_of_length_1():
    embeddings, mean = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    found = cl2n(embeddings, mean)
    for x, y in zip(embeddings.flatten(0, 1).tolist(), found.flatten(0, 1).tolist(), strict=True):
        assert y == pytest.approx(unit([a - b for a, b in zip(x, mean.tolist(), strict=True)]), rel=1e-12)
    at_mean = mean.float()[None].requires_grad_()
    cl2n(at_mean, mean.float()).sum().backward()
    assert at_mean.grad.isfinite().all()
    assert torch.allclose(F.normalize(found, dim=-1), found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, p: prototypical_loss(q[0], p), r"\(episodes, classes, queries per class, size\)"),
        (lambda q, p: prototypical_loss(q, p[:, :2]), r"got torch.float64 of shape \(1, 5, 4, 8\) and .*\(1, 2, 8\)"),
        (lambda q, p: prototypical_loss(q[:, :, :0], p), "queries per class"),
        (lambda q, p: prototypical_loss(q, p, temperature=0), "temperature must be positive"),
        (lambda q, p: prototypical_loss(q, p, "manhattan"), "one of squared, euclidean, cosine, got 'manhattan'"),
        (lambda q, p: pairwise_distances(q[..., :3], p), "of one size"),
        (lambda q, p: pairwise_distances(q, p.long()), "floating-point"),
        (lambda q, p: class_prototypes(q[:, :, :0]), "at least one shot"),
        (lambda q, p: cl2n(p, p), "one number for each"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*episodes())
