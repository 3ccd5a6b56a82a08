from __future__ import annotations

import numpy as np
import pytest
import torch

from tome_audio.data.sampling import EpochSampler, balanced_weights


def ast_weights(labels: list[tuple[str, ...]]) -> list[float]:
    """AST's gen_weight_file, step by step."""
    names = sorted({label for own in labels for label in own})
    count = np.zeros(len(names))
    for own in labels:
        for label in own:
            count[names.index(label)] += 1
    label_weight = 1000.0 / (count + 0.01)
    return [sum(label_weight[names.index(label)] for label in own) for own in labels]


def test_weights_are_those_of_ast():
    rng = np.random.default_rng(0)
    names = [f"/m/{i}" for i in range(12)]
    labels = [tuple(rng.choice(names, rng.integers(1, 4), replace=False)) for _ in range(100)]
    assert balanced_weights(labels).tolist() == pytest.approx(ast_weights(labels), rel=1e-12)


def test_classes_are_drawn_alike_however_many_clips_they_have():
    labels = [("rare",)] * 10 + [("usual",)] * 990
    drawn = list(EpochSampler(1000, 0, balanced_weights(labels)))
    assert len(drawn) == 1000
    assert sum(i < 10 for i in drawn) / 1000 == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("weights", [None, torch.rand(50)])
def test_an_epoch_depends_on_seed_and_epoch_alone(weights):
    def order(seed, epoch):
        sampler = EpochSampler(50, seed, weights)
        sampler.set_epoch(epoch)
        torch.rand(7)  # the global state has no say
        return list(sampler)

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees():
    whole, resumed, seen = EpochSampler(20, 4), EpochSampler(20, 4), []
    for epoch in range(5):
        whole.set_epoch(epoch)
        seen.append(list(whole))
    for epoch in (3, 4):
        resumed.set_epoch(epoch)
        assert list(resumed) == seen[epoch]


def test_without_weights_every_clip_comes_once():
    sampler = EpochSampler(30)
    assert sorted(sampler) == list(range(30)) and list(sampler) != list(range(30))
    assert len(sampler) == 30 and list(sampler) == list(sampler)


def test_a_clip_of_weight_0_never_comes():
    assert set(EpochSampler(3, 0, torch.tensor([0.0, 1.0, 0.0]))) == {1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EpochSampler(0), "n_clips must be at least 1"),
        (lambda: EpochSampler(3, 0, torch.ones(2)), r"3 clips need weights \(3,\), got shape \(2,\)"),
        (lambda: EpochSampler(2, 0, torch.tensor([1.0, float("nan")])), "must be finite, not negative"),
        (lambda: EpochSampler(2, 0, torch.tensor([1.0, -1.0])), "must be finite, not negative"),
        (lambda: EpochSampler(2, 0, torch.zeros(2)), "not all 0"),
        (lambda: balanced_weights([("a",), ()]), "clip 1 has no label"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
