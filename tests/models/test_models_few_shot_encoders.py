"""The small encoders against their description, their published sizes, and which axis is time."""

import json

import pytest
import torch
from small_models import noise, randomise_
from torch import nn
from torch.nn import functional as F

from tome_audio.models import CRNN, ConvEncoder

BOTH = pytest.mark.parametrize("kind", [ConvEncoder, CRNN])


@pytest.mark.parametrize(("kind", "n_parameters"), [(ConvEncoder, 116_224), (CRNN, 124_544)])
def test_sizes_are_the_published_ones(kind, n_parameters):
    model = kind()
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert (model.n_mels, model.n_frames, model.out_dim) == (128, 157, 64)
    assert model.eval()(noise(2, 157, 128)).shape == (2, 64)


def small(kind, **changes):
    return kind(**({"n_mels": 18, "n_frames": 53, "width": 5, "out_dim": 7, "pool": (2, 2)} | changes))


def with_statistics(model):
    """Return the model with random weights and norms that keep clips apart, in eval mode."""
    randomise_(model).train()
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.weight.data += 1
        norm.momentum = 1.0  # the statistics of one batch
    x = noise(6, model.n_frames, model.n_mels, seed=3)
    with torch.no_grad():
        model(x)
        assert model.eval()(x).std(0).min() > 0.05
    return model


def described(model, x, pool):
    """Return what four blocks leave (B, channels, T', F'), one operation after the other."""
    norms = [m for m in model.blocks if isinstance(m, nn.BatchNorm2d)]
    convolutions = [m for m in model.blocks if isinstance(m, nn.Conv2d)]
    assert len(norms) == len(convolutions) == 4
    x = x[:, None]
    for convolution, norm in zip(convolutions, norms, strict=True):
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
        frames, bins = x.shape[2] // pool[1], x.shape[3] // pool[0]
        x = x[:, :, : frames * pool[1], : bins * pool[0]].unflatten(2, (frames, pool[1])).unflatten(4, (bins, pool[0]))
        x = x.amax((3, 5))
    return x


def head(model, x):
    _, norm, linear = model.head
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return x @ linear.weight.T + linear.bias


@torch.no_grad()
def test_the_convolutions_are_their_description():
    model, x = with_statistics(small(ConvEncoder)), noise(3, 53, 18)
    torch.testing.assert_close(model(x), head(model, described(model, x, (2, 2)).flatten(1)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("n_mels", "pool"), [(18, (2, 2)), (33, (2, 1)), (3, (1, 2))])
def test_the_recurrent_layer_goes_over_time_and_adds_its_input(n_mels, pool):
    model, x = with_statistics(small(CRNN, n_mels=n_mels, pool=pool)), noise(3, 53, n_mels)
    left = described(model, x, pool)
    assert left.shape == (3, 5, 53 // pool[1] ** 4, n_mels // pool[0] ** 4)
    weights, state = dict(model.rnn.named_parameters()), 0
    for t in range(left.shape[2]):
        step = torch.stack([left[:, :, t, f] for f in range(left.shape[3])], 1).flatten(1)  # bin after bin
        before = state @ weights["weight_hh_l0"].T if t else 0
        state = before + weights["bias_hh_l0"] + step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        state = state.tanh()
    torch.testing.assert_close(model(x), head(model, state + step), atol=1e-4, rtol=1e-3)


@BOTH
def test_swapped_axes_are_refused(kind):
    model = small(kind)
    with pytest.raises(ValueError, match=rf"{kind.__name__} was given .*\(2, 18, 53\) .*53 frames, 18 mel bins"):
        model(noise(2, 18, 53))


@BOTH
def test_negative_features_count(kind):
    """Standardised features are below zero where a clip is quiet; clamping them would lose that."""
    model, x = with_statistics(small(kind)), noise(3, 53, 18)
    with torch.no_grad():
        assert not torch.allclose(model(x), model(x.clamp(min=0)), atol=0.05)


@BOTH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_frames": 80, "n_mels": 128, "pool": (3, 3)}, r"by 3 leave nothing of 80 frames: .* 81, .*pool=\(3, 2\)"),
        ({"n_frames": 157, "n_mels": 64, "pool": (3, 3)}, r"nothing of 64 mel bins: .* 81, .*pool=\(2, 3\)"),
        ({"n_frames": 15}, r"by 2 leave nothing of 15 frames: .* 16, .*pool=\(2, 1\)"),
        ({"pool": (2,)}, "two positive numbers"),
        ({"pool": (2, 0)}, "two positive numbers"),
        ({"width": 0}, "width and out_dim must be positive"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
    ],
)
def test_settings_that_do_not_fit_are_named(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        small(kind, **changes)


@BOTH
def test_what_an_error_proposes_fits(kind):
    assert kind(n_frames=32, pool=(3, 2)).eval()(noise(2, 32, 128)).shape == (2, 64)
    assert kind(n_frames=81).eval()(noise(2, 81, 128)).shape == (2, 64)


@BOTH
def test_the_same_model_is_built_from_its_arguments(kind):
    model = with_statistics(small(kind, dropout=0.5))
    again = kind(**json.loads(json.dumps(model.init_args))).eval()
    again.load_state_dict(model.state_dict())
    x = noise(3, 53, 18)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert again.head[0].p == 0.5
    for weight in (p for p in again.parameters() if p.ndim == 4):
        assert weight.is_contiguous(memory_format=torch.channels_last)


@BOTH
def test_it_learns_and_runs_in_autocast(kind):
    model = small(kind)
    loss = model(noise(4, 53, 18)).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model.eval()(noise(4, 53, 18))
    assert cast.isfinite().all()
    torch.testing.assert_close(cast.float(), model(noise(4, 53, 18)), atol=0.1, rtol=0.1)
