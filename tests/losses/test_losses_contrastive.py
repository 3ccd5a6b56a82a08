"""The contrastive prototypical loss against loops in float64 and against pytorch-metric-learning."""

import math

import pytest
import torch
from episode_arrays import cases, dot, draw, episodes, labelled, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss

from tome_audio.losses import contrastive_prototypical_loss, draw_negatives


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def naive_loss(queries, prototypes, drawn, temperature):
    losses = []
    for e, (points, centres) in enumerate(zip(queries.tolist(), prototypes.tolist(), strict=True)):
        for k, own in enumerate(points):
            anchor = unit(centres[k])
            for i, z in enumerate(own):
                positive = math.exp(dot(anchor, unit(z)) / temperature)
                negatives = sum(
                    math.exp(dot(anchor, unit(points[m][j])) / temperature)
                    for m in range(len(centres))
                    for j in drawn[e, k, i, m].tolist()
                    if m != k
                )
                losses.append(-math.log(positive / (positive + negatives)))
    return sum(losses) / len(losses)


@given(case=cases, temperature=st.floats(0.2, 9), data=st.data())
@settings(max_examples=50, deadline=None)
def test_it_is_the_formula(case, temperature, data):
    queries, prototypes = draw(case)
    shape = case["n_episodes"], case["n_classes"], case["n_queries"]
    n_negatives = data.draw(st.integers(1, case["n_queries"]))
    drawn = draw_negatives(*shape, n_negatives, seeded(case["seed"]))
    found = contrastive_prototypical_loss(
        queries, prototypes, temperature=temperature, n_negatives=n_negatives, generator=seeded(case["seed"])
    )
    assert found.item() == pytest.approx(naive_loss(queries, prototypes, drawn, temperature), rel=1e-9)
    legacy = contrastive_prototypical_loss(
        queries, prototypes, temperature=temperature, n_negatives=n_negatives, generator=seeded(case["seed"]),
        legacy=True,
    )  # fmt: skip
    assert legacy.item() == pytest.approx(found.item() / (shape[1] * shape[2]), rel=1e-12)


def test_with_all_negatives_it_is_ntxent_of_prototypes_over_queries():
    queries, prototypes = episodes()
    points, labels, centres, classes = labelled(queries, prototypes)
    wanted = NTXentLoss(0.7)(centres, classes, ref_emb=points, ref_labels=labels)
    found = contrastive_prototypical_loss(queries, prototypes, temperature=0.7, n_negatives=4)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-8)


def test_draws_are_without_replacement_even_and_each_on_its_own():
    drawn = draw_negatives(2, 5, 40, 3, seeded())
    assert drawn.shape == (2, 5, 40, 5, 3) and drawn.dtype == torch.int64
    ordered = drawn.sort(-1).values
    assert (ordered[..., 1:] > ordered[..., :-1]).all() and ordered.min() == 0 and ordered.max() == 39
    counts = drawn.flatten().bincount(minlength=40).double()
    wanted = drawn.numel() / 40
    assert ((counts - wanted).abs() < 5 * wanted**0.5).all()
    rows = ordered.flatten(0, 3).unique(dim=0)
    assert len(rows) > 0.8 * 2 * 5 * 40 * 5  # of 9880 possible triples
    assert torch.equal(drawn, draw_negatives(2, 5, 40, 3, seeded()))
    assert not torch.equal(drawn, draw_negatives(2, 5, 40, 3, seeded(1)))


def test_the_generator_alone_decides_the_draw():
    queries, prototypes = episodes()
    settings = {"temperature": 1.0, "n_negatives": 1}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    losses = [
        contrastive_prototypical_loss(queries, prototypes, generator=seeded(s), **settings).item() for s in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), before)
    contrastive_prototypical_loss(queries, prototypes, **settings)
    assert not torch.equal(torch.get_rng_state(), before)


def test_gradients_are_finite_where_a_query_is_its_prototype():
    _, prototypes = episodes()
    prototypes = prototypes.float().requires_grad_()
    queries = prototypes.detach()[:, :, None].repeat(1, 1, 2, 1).requires_grad_()
    contrastive_prototypical_loss(queries, prototypes, temperature=0.05, n_negatives=1).backward()
    for grad in (queries.grad, prototypes.grad):
        assert grad.isfinite().all() and grad.abs().max() > 0


def test_gradients_are_those_of_finite_differences():
    queries, prototypes = episodes(n_classes=3, n_queries=2, size=3)
    inputs = queries.requires_grad_(), prototypes.requires_grad_()

    def loss(q, p):
        return contrastive_prototypical_loss(q, p, temperature=0.5, n_negatives=1, generator=seeded())

    assert torch.autograd.gradcheck(loss, inputs)


def test_half_precision_and_autocast_compute_in_float32():
    queries, prototypes = (x.bfloat16() for x in episodes())
    settings = {"temperature": 0.3, "n_negatives": 4}
    wanted = contrastive_prototypical_loss(queries.float(), prototypes.float(), generator=seeded(), **settings)
    found = contrastive_prototypical_loss(queries, prototypes, generator=seeded(), **settings)
    assert torch.equal(found, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = contrastive_prototypical_loss(queries.float(), prototypes, generator=seeded(), **settings)
    assert torch.equal(cast, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_negatives": 5}, "n_negatives is 5, but a class has 4 queries"),
        ({"n_negatives": 0}, "n_negatives is 0"),
        ({"temperature": math.inf}, "temperature must be positive and finite"),
    ],
)
def test_settings_out_of_range_are_named(change, message):
    queries, prototypes = episodes()
    with pytest.raises(ValueError, match=message):
        contrastive_prototypical_loss(queries, prototypes, **({"temperature": 1.0, "n_negatives": 2} | change))


def test_one_class_has_no_negatives():
    queries, prototypes = episodes(n_classes=1)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        contrastive_prototypical_loss(queries, prototypes, temperature=1.0, n_negatives=1)
