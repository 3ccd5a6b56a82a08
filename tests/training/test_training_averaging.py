from __future__ import annotations

import pytest
import torch
from torch import nn

from tome_audio.training.averaging import EpochMean, MovingAverage, holding


def model_at(step: int) -> nn.Module:
    torch.manual_seed(step)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model(torch.randn(5, 3))
    model[1].num_batches_tracked.fill_(step)
    return model


def test_moving_average_is_its_formula():
    models = [model_at(step) for step in range(40)]
    average = MovingAverage(models[0], 0.8)
    naive = models[0][0].weight.detach().double()
    for t, model in enumerate(models[1:]):
        average.update(model)
        d = min(0.8, (1 + t) / (10 + t))
        naive = d * naive + (1 - d) * model[0].weight.detach().double()
    assert torch.allclose(average.weights["0.weight"].double(), naive, atol=1e-6)
    assert average.weights["1.num_batches_tracked"] == 39 and average.n_updates == 39
    assert not torch.equal(average.weights["0.weight"], models[-1][0].weight)


def test_a_moving_average_goes_on_from_what_was_saved():
    models = [model_at(step) for step in range(12)]
    whole, first, second = (MovingAverage(models[0], 0.9) for _ in range(3))
    for i, model in enumerate(models):
        whole.update(model)
        if i < 6:
            first.update(model)
    second.load({name: value.clone() for name, value in first.weights.items()}, first.n_updates)
    for model in models[6:]:
        second.update(model)
    assert all(torch.equal(whole.weights[name], second.weights[name]) for name in whole.weights)


def test_epoch_mean_is_the_plain_mean():
    models, mean = [model_at(step) for step in range(5)], EpochMean()
    with pytest.raises(ValueError, match="no epoch has been averaged"):
        mean.mean()
    for model in models:
        mean.add(model.state_dict())
    found = mean.mean()
    for name in ("0.weight", "0.bias", "1.running_var"):
        naive = torch.stack([model.state_dict()[name] for model in models]).double().mean(0)
        assert torch.allclose(found[name].double(), naive, atol=1e-6)
    assert found["1.num_batches_tracked"] == 4 and found["1.num_batches_tracked"].dtype == torch.int64


def test_averages_do_not_share_memory_with_the_model():
    model, mean = model_at(0), EpochMean()
    average = MovingAverage(model, 0.5)
    mean.add(model.state_dict())
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(average.weights["0.weight"], before) and torch.equal(mean.mean()["0.weight"], before)


def test_a_model_holds_other_weights_for_a_while_even_if_that_fails():
    model, other = model_at(0), model_at(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameter = model[0].weight
    with holding(model, other.state_dict()):
        assert torch.equal(model[0].weight, other[0].weight) and model[0].weight is parameter
    with pytest.raises(KeyError), holding(model, other.state_dict()):
        raise KeyError
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_bad_decay_is_named(decay):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\), got {decay}"):
        MovingAverage(model_at(0), decay)
