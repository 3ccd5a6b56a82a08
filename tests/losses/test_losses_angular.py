"""The angular prototypical loss against loops in float64 and against pytorch-metric-learning."""

import math

import pytest
import torch
from episode_arrays import cases, dot, draw, episodes, labelled, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import AngularLoss
from pytorch_metric_learning.miners import AngularMiner

from tome_audio.losses import angular_prototypical_loss


def naive_episode(points, centres, alpha, prototypes_as_anchors, least):
    """Return the mean over pairs; `least` degrees weighs them by their negatives, None counts each once."""
    references = [(unit(z), k) for k, own in enumerate(points) for z in own]
    anchors = [(unit(p), k) for k, p in enumerate(centres)]
    if not prototypes_as_anchors:
        references = anchors = anchors + references
    tan2, total, count = math.tan(math.radians(alpha)) ** 2, 0.0, 0
    for a, k in anchors:
        for p, of_positive in references:
            if of_positive != k or a is p:
                continue
            negatives = [n for n, of_negative in references if of_negative != k]
            both = [x + y for x, y in zip(a, p, strict=True)]
            loss = math.log(1 + sum(math.exp(4 * tan2 * dot(both, n) - 2 * (1 + tan2) * dot(a, p)) for n in negatives))
            weight = 1 if least is None else sum(angle_at(n, a, p) > least for n in negatives)
            total, count = total + weight * loss, count + weight
    return total / count if count else 0.0


def angle_at(n, a, p):
    away = math.sqrt(sum((z - (x + y) / 2) ** 2 for z, x, y in zip(n, a, p, strict=True)))
    return math.degrees(math.atan2(math.dist(a, p), 2 * away))


def naive_loss(queries, prototypes, *settings):
    pairs = zip(queries.tolist(), prototypes.tolist(), strict=True)
    losses = [naive_episode(points, centres, *settings) for points, centres in pairs]
    return sum(losses) / len(losses)


@given(case=cases, angle=st.floats(0.1, 70), anchors=st.booleans())
@settings(max_examples=50, deadline=None)
def test_it_is_the_formula(case, angle, anchors):
    queries, prototypes = draw(case)
    found = angular_prototypical_loss(queries, prototypes, angle=angle, prototypes_as_anchors=anchors)
    assert found.item() == pytest.approx(naive_loss(queries, prototypes, angle, anchors, None), rel=1e-9)


# In one dimension every angle is 0 or 90 degrees, and the right answer is a matter of rounding.
wide_cases = cases.filter(lambda case: case["size"] > 1)


@given(case=wide_cases, angle=st.floats(1, 89), anchors=st.booleans())
@settings(max_examples=50, deadline=None)
def test_legacy_weighs_pairs_by_their_negatives(case, angle, anchors):
    queries, prototypes = draw(case)
    found = angular_prototypical_loss(queries, prototypes, angle=angle, prototypes_as_anchors=anchors, legacy=True)
    wanted = naive_loss(queries, prototypes, 40, anchors, angle)
    assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def library(queries, prototypes, alpha, anchors, miner):
    points, labels, centres, classes = labelled(queries, prototypes)
    batch = (centres, classes)
    references = {"ref_emb": points, "ref_labels": labels}
    if not anchors:
        batch, references = (torch.cat([centres, points]), torch.cat([classes, labels])), {}
    triplets = miner(*batch, **references) if miner else None
    return AngularLoss(alpha)(*batch, triplets, **references)


@pytest.mark.parametrize("anchors", [True, False])
@pytest.mark.parametrize("angle", [15.0, 40.0, 60.0])
def test_it_is_the_librarys_loss_without_a_miner(anchors, angle):
    queries, prototypes = episodes(unit=True)  # the library leaves negatives as long as they are
    found = angular_prototypical_loss(queries, prototypes, angle=angle, prototypes_as_anchors=anchors)
    wanted = library(queries, prototypes, angle, anchors, None)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)  # its tangent is in float32


@pytest.mark.parametrize("anchors", [True, False])
@pytest.mark.parametrize("angle", [0, 15, 30, 45])
def test_legacy_is_the_librarys_loss_with_its_miner(anchors, angle):
    queries, prototypes = episodes(unit=True, seed=1)
    found = angular_prototypical_loss(queries, prototypes, angle=angle, prototypes_as_anchors=anchors, legacy=True)
    wanted = library(queries, prototypes, 40, anchors, AngularMiner(angle))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    if angle == 0:
        unmined = angular_prototypical_loss(queries, prototypes, angle=40, prototypes_as_anchors=anchors)
        assert found.item() == pytest.approx(unmined.item(), rel=1e-12)


def test_the_angle_is_really_used():
    queries, prototypes = episodes()
    for legacy in (False, True):
        losses = {
            angular_prototypical_loss(queries, prototypes, angle=a, prototypes_as_anchors=True, legacy=legacy).item()
            for a in (10, 25, 40)
        }
        assert len(losses) == 3


@pytest.mark.parametrize("anchors", [True, False])
def test_no_pair_kept_costs_nothing_and_can_be_differentiated(anchors):
    prototypes = torch.eye(3)[None].requires_grad_()
    queries = torch.eye(3)[None, :, None].repeat(1, 1, 2, 1).requires_grad_()
    loss = angular_prototypical_loss(queries, prototypes, angle=30, prototypes_as_anchors=anchors, legacy=True)
    loss.backward()
    assert loss == 0 and (queries.grad == 0).all() and (prototypes.grad == 0).all()
    every = angular_prototypical_loss(queries, prototypes, angle=0, prototypes_as_anchors=anchors, legacy=True)
    assert every > 0


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("anchors", [True, False])
def test_gradients_are_those_of_finite_differences_and_finite_at_a_prototype(anchors, legacy):
    queries, prototypes = episodes(n_classes=3, n_queries=2, size=3)

    def loss(q, p):
        return angular_prototypical_loss(q, p, angle=20, prototypes_as_anchors=anchors, legacy=legacy)

    assert torch.autograd.gradcheck(loss, (queries.requires_grad_(), prototypes.requires_grad_()))
    same = prototypes.detach().float().requires_grad_()
    at_prototype = same.detach()[:, :, None].repeat(1, 1, 2, 1).requires_grad_()
    loss(at_prototype, same).backward()
    assert at_prototype.grad.isfinite().all() and same.grad.isfinite().all()


@pytest.mark.parametrize("angle", [0.1, 40.0, 89.0])
def test_steep_angles_stay_finite_in_float32(angle):
    queries, prototypes = (x.float() for x in episodes())
    queries.requires_grad_()
    loss = angular_prototypical_loss(queries, prototypes, angle=angle, prototypes_as_anchors=False)
    loss.backward()
    assert loss.isfinite() and queries.grad.isfinite().all()


@pytest.mark.parametrize("anchors", [True, False])
def test_half_precision_and_autocast_compute_in_float32(anchors):
    queries, prototypes = (x.bfloat16() for x in episodes())
    settings = {"angle": 30, "prototypes_as_anchors": anchors}
    wanted = angular_prototypical_loss(queries.float(), prototypes.float(), **settings)
    assert torch.equal(angular_prototypical_loss(queries, prototypes, **settings), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(angular_prototypical_loss(queries.float(), prototypes, **settings), wanted)


@pytest.mark.parametrize("angle", [-1, 90, math.nan])
def test_an_angle_out_of_range_is_named(angle):
    with pytest.raises(ValueError, match="angle is in degrees, from 0 to below 90"):
        angular_prototypical_loss(*episodes(), angle=angle, prototypes_as_anchors=True)


def test_an_angle_without_negatives_is_refused_but_where_it_chooses_pairs():
    with pytest.raises(ValueError, match="an angle of 0 leaves negatives out"):
        angular_prototypical_loss(*episodes(), angle=0, prototypes_as_anchors=True)
    assert angular_prototypical_loss(*episodes(), angle=0, prototypes_as_anchors=True, legacy=True) > 0


def test_one_class_has_no_negatives():
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        angular_prototypical_loss(*episodes(n_classes=1), angle=30, prototypes_as_anchors=True)
