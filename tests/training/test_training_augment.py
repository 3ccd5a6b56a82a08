from __future__ import annotations

import pytest
import torch

from tome_audio.training.augment import spec_augment, time_roll


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(n: int = 64, n_frames: int = 20, n_bins: int = 30) -> torch.Tensor:
    return torch.rand(n, n_frames, n_bins, generator=generator(9)) + 1  # no zeros


def test_masks_are_one_band_and_one_stretch_per_sample_no_wider_than_asked():
    masked = spec_augment(features(), generator(), max_freq=7, max_time=5) == 0
    bands, stretches = masked.all(1), masked.all(2)  # (B, F), (B, T)
    assert torch.equal(masked, bands[:, None, :] | stretches[:, :, None])
    for spans, longest in ((bands, 7), (stretches, 5)):
        edges = torch.diff(spans.int(), prepend=torch.zeros(len(spans), 1, dtype=torch.int32), dim=1)
        assert (edges == 1).sum(1).max() == 1  # one run each
        assert set(spans.sum(1).tolist()) == set(range(longest + 1))  # every width comes up among 64


def test_what_is_not_masked_stays_and_the_input_too():
    x = features()
    before = x.clone()
    out = spec_augment(x, generator(), 7, 5)
    assert torch.equal(x, before)
    assert torch.equal(out[out != 0], x[out != 0])


def test_masks_reach_both_ends():
    masked = spec_augment(features(500), generator(), 7, 5) == 0
    assert masked.all(1)[:, 0].any() and masked.all(1)[:, -1].any()
    assert masked.all(2)[:, 0].any() and masked.all(2)[:, -1].any()


@pytest.mark.parametrize("augment", [lambda x, g: spec_augment(x, g, 7, 5), lambda x, g: time_roll(x, g, 4)])
def test_randomness_is_the_generators_alone(augment):
    state = torch.get_rng_state()
    first = augment(features(), generator(1))
    assert torch.equal(first, augment(features(), generator(1)))
    assert not torch.equal(first, augment(features(), generator(2)))
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_asked_nothing_done():
    x = features()
    assert torch.equal(spec_augment(x, generator(), 0, 0), x)
    assert torch.equal(time_roll(x, generator(), 0), x)


def test_roll_is_torch_roll_by_a_shift_of_each_samples_own():
    x, out = features(), time_roll(features(), generator(), 4)
    shifts = [[s for s in range(-4, 5) if torch.equal(out[i], x[i].roll(s, 0))] for i in range(len(x))]
    assert all(len(found) == 1 for found in shifts)
    assert {found[0] for found in shifts} == set(range(-4, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, g: spec_augment(x, g, 31, 5), "max_freq must be between 0 and 30 .* got 31"),
        (lambda x, g: spec_augment(x, g, 7, -1), "max_time must be between 0 and 20 .* got -1"),
        (lambda x, g: spec_augment(x[0], g, 7, 5), r"must be \(B, T, F\), got shape \(20, 30\)"),
        (lambda x, g: time_roll(x[0], g, 5), r"must be \(B, T, F\), got shape \(20, 30\)"),
        (lambda x, g: time_roll(x, g, -5), "max_shift must not be negative, got -5"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(features(), generator())
