from __future__ import annotations

import math

import pytest

from tome_audio.training.schedules import LearningRate, linear_warmup, multistep, staircase_warmup


@pytest.mark.parametrize(
    ("start", "every", "decay", "epochs"),
    [
        (2, 1, 0.5, [1, 1, 0.5, 0.25, 0.125]),  # AudioSet, full: five epochs
        (10, 5, 0.5, [1.0] * 10 + [0.5] * 5 + [0.25] * 5 + [0.125] * 5),  # AudioSet, balanced: 25 epochs
        (5, 1, 0.85, [1, 1, 1, 1, 1, 0.85, 0.7225, 0.614125]),  # ESC-50 and Speech Commands
    ],
)
def test_multistep_is_that_of_the_recipes(start, every, decay, epochs):
    assert [multistep(e, start, every, decay) for e in range(len(epochs))] == pytest.approx(epochs)


def test_multistep_is_torchs():
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(range(3, 1000, 2)), gamma=0.7)
    for epoch in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(multistep(epoch, 3, 2, 0.7))
        optimizer.step()
        scheduler.step()


def test_asts_warmup_rises_in_stairs_from_nought():
    steps = {0: 0.0, 49: 0.0, 50: 0.05, 99: 0.05, 100: 0.1, 500: 0.5, 999: 0.95, 1000: 1.0, 5000: 1.0}
    assert {step: staircase_warmup(step, 1000, 50) for step in steps} == pytest.approx(steps)


def test_linear_warmup_moves_at_once():
    assert [linear_warmup(step, 4) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_recipe_of_ast_put_together():
    """AudioSet, balanced: 1733 steps an epoch, 5e-5; the warm-up ends within the first."""
    curve = LearningRate("multistep", warmup_steps=1000, warmup_every=50, start=10, every=5, decay=0.5)
    at = {60: 2.5e-6, 1700: 5e-5, 9 * 1733: 5e-5, 10 * 1733: 2.5e-5, 24 * 1733: 6.25e-6}
    assert {step: 5e-5 * curve.factor(step, step // 1733, 25 * 1733) for step in at} == pytest.approx(at)


def test_cosine_after_its_warmup():
    curve = LearningRate("cosine", warmup_steps=10)
    factors = [curve.factor(step, 0, 110) for step in (0, 9, 10, 35, 60, 109)]
    assert factors == pytest.approx(
        [1 / 11, 10 / 11, 1, (1 + math.sqrt(0.5)) / 2, 0.5, 0.5 * (1 + math.cos(math.pi * 0.99))]
    )
    assert [LearningRate("constant").factor(step, 9, 10) for step in range(10)] == [1.0] * 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curve": "step"}, "curve='step' is unknown; choose one of constant, multistep, cosine"),
        ({"warmup_steps": -1}, "warmup_steps of a learning rate must be at least 0, got -1"),
        ({"every": 0}, "every of a learning rate must be at least 1, got 0"),
        ({"decay": 0.0}, r"decay of a learning rate must be in \(0, 1\], got 0\.0"),
    ],
)
def test_bad_curves_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        LearningRate(**change)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="1000 steps of warm-up do not fit into a run of 1000: lower warmup_steps"):
        LearningRate(warmup_steps=1000).factor(0, 0, 1000)
