from __future__ import annotations

import numpy as np
import pytest
import torch

from tome_audio.audio.mixup import draw_mixup, mix_targets, mix_waveforms


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(n: int = 4000, probability: float = 0.5, seed: int = 0, **settings):
    return draw_mixup(torch.arange(n), n, probability, generator(seed), **settings)


def test_as_many_clips_are_mixed_as_asked_and_the_rest_stay_themselves():
    partner, weight = draw(probability=0.3)
    mixed = weight < 1
    assert mixed.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(partner[~mixed], torch.arange(4000)[~mixed])
    assert not torch.equal(partner[mixed], torch.arange(4000)[mixed])


@pytest.mark.parametrize("alpha", [1, 2, 10])
def test_weights_are_beta_distributed(alpha):
    weight = draw(20000, 1.0, alpha=alpha).weight.double()
    # Moments of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)), fourth central moment 3 / (16 (2 a + 1) (2 a + 3)).
    centred = weight - 0.5
    assert weight.mean().item() == pytest.approx(0.5, abs=0.01)
    assert centred.square().mean().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)
    assert centred.pow(4).mean().item() == pytest.approx(3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)), rel=0.08)
    reference = np.random.default_rng(0).beta(alpha, alpha, 20000)
    points = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.allclose(np.quantile(weight, points), np.quantile(reference, points), atol=0.015)


def test_partners_are_uniform_over_the_whole_set():
    partner = draw_mixup(torch.zeros(20000, dtype=torch.int64), 10, 1.0, generator()).partner
    assert partner.bincount(minlength=10).float().div(20000).tolist() == pytest.approx([0.1] * 10, abs=0.01)


def test_draws_are_the_generators_alone():
    state = torch.get_rng_state()
    first, again, other = draw(seed=1), draw(seed=1), draw(seed=2)
    assert torch.equal(first.partner, again.partner) and torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_and_all(probability):
    assert (draw(probability=probability).weight < 1).float().mean() == probability


def ast_mix(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """AST's steps, one after the other."""
    first, second = first - first.mean(), second - second.mean()
    if len(second) < len(first):
        second = np.concatenate([second, np.zeros(len(first) - len(second))])
    mixed = weight * first + (1 - weight) * second[: len(first)]
    return mixed - mixed.mean()


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 20), (20, 50), (1, 1)])
def test_waveforms_are_mixed_as_ast_mixes_them(n, m):
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1, n), rng.normal(-0.2, 1, m)
    mixed = mix_waveforms(torch.from_numpy(first), torch.from_numpy(second), 0.7)
    assert np.allclose(mixed, ast_mix(first, second, 0.7), atol=1e-12)
    assert abs(mixed.mean()) < 1e-12


def test_weight_one_is_the_clip_without_its_mean():
    first = torch.rand(30)
    assert torch.allclose(mix_waveforms(first, torch.rand(9), 1.0), first - first.mean(), atol=1e-7)


def test_labels_and_teacher_targets_are_mixed_by_the_same_weights_row_by_row():
    labels, teacher = torch.eye(4)[[0, 1, 2]], torch.rand(3, 4)
    partner, weight = torch.tensor([1, 2, 2]), torch.tensor([0.25, 1.0, 0.4])
    mixed, taught = (mix_targets(x, x[partner], weight) for x in (labels, teacher))
    assert mixed.tolist() == [[0.25, 0.75, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]  # shared labels add up
    for i, (j, w) in enumerate(zip(partner.tolist(), weight.tolist(), strict=True)):
        assert torch.allclose(taught[i], w * teacher[i] + (1 - w) * teacher[j])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(probability=1.1), r"probability must be in \[0, 1\], got 1.1"),
        (lambda: draw(alpha=0), "alpha must be a whole number from 1, got 0"),
        (lambda: draw_mixup(torch.tensor([3]), 3, 0.5, generator()), "clip numbers must be 0 to 2, got 3 to 3"),
        (lambda: draw_mixup(torch.tensor([0.5]), 3, 0.5, generator()), r"must be int64 clip numbers \(B,\)"),
        (lambda: mix_waveforms(torch.rand(1, 5), torch.rand(5), 0.5), r"first clip must be \(T,\)"),
        (lambda: mix_waveforms(torch.rand(5), torch.rand(0), 0.5), r"second clip must be \(T,\)"),
        (lambda: mix_waveforms(torch.rand(5), torch.rand(5), -0.5), r"weights must be in \[0, 1\], got -0.5"),
        (lambda: mix_targets(torch.rand(2, 3), torch.rand(2, 4), torch.rand(2)), r"needs targets \(B, C\)"),
        (lambda: mix_targets(torch.ones(2, 3).long(), torch.ones(2, 3).long(), torch.rand(2)), "must be floats"),
        (lambda: mix_targets(torch.rand(2, 3), torch.rand(2, 3), torch.tensor([0.5, 2.0])), "got 2.0"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
