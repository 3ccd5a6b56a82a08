from __future__ import annotations

import pytest
import torch

from tome_audio.audio.augment import ast_augment, ast_noise_and_roll, ast_spec_augment, spec_augment, time_roll


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


# as AST does it


def torchaudio_masks(features: torch.Tensor, seed: int, freqm: int, timem: int) -> torch.Tensor:
    """One sample (T, F), masked as AST's data loader does, from the global random state."""
    transforms = pytest.importorskip("torchaudio.transforms")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spectrogram = features.T[None]
        masked = transforms.TimeMasking(timem)(transforms.FrequencyMasking(freqm)(spectrogram))
    return masked[0].T


@pytest.mark.parametrize("seed", range(20))
def test_one_sample_is_masked_bit_for_bit_as_torchaudio_masks_it(seed):
    x = features(1, 40, 30)
    assert torch.equal(ast_spec_augment(x, generator(seed), 12, 17)[0], torchaudio_masks(x[0], seed, 12, 17))


def test_ast_widths_stay_below_the_number_and_every_one_comes_up():
    masked = ast_spec_augment(features(400), generator(), 7, 5) == 0
    bands, stretches = masked.all(1), masked.all(2)
    assert set(bands.sum(1).tolist()) == set(range(7)) and set(stretches.sum(1).tolist()) == set(range(5))


def test_ast_masks_come_before_normalisation():
    x, mean, std = features(8) - 5, -4.0, 2.5
    out = ast_augment(x, generator(), mean=mean, std=std, freqm=12, timem=9)
    masked = ast_spec_augment(x, generator(), 12, 9)
    assert torch.equal(out, (masked - mean) / (2 * std))
    assert out[masked == 0].unique().tolist() == pytest.approx([-mean / (2 * std)])


def naive_noise_and_roll(x: torch.Tensor, seed: int) -> torch.Tensor:
    draws = generator(seed)
    level = torch.rand(len(x), 1, 1, generator=draws)
    noise = torch.rand(x.shape, generator=draws)
    shifts = torch.randint(-10, 10, (len(x), 1), generator=draws).flatten().tolist()
    return torch.stack([(x[i] + noise[i] * (0.1 * level[i])).roll(shifts[i], 0) for i in range(len(x))])


def test_noise_then_roll_in_ranges_of_ast():
    x = features(300, 25, 4)
    assert torch.equal(ast_noise_and_roll(x, generator(3)), naive_noise_and_roll(x, 3))
    ramp = torch.arange(25.0)[None, :, None].expand(300, -1, 4) * 10
    out = ast_noise_and_roll(ramp, generator(3))
    assert {int((row[0, 0].round() / -10) % 25) for row in out} == {shift % 25 for shift in range(-10, 10)}
    added = out.sort(dim=1).values - ramp
    assert added.min() >= 0 and 0.09 < added.amax(dim=(1, 2)).max() < 0.1 and added.amax(dim=(1, 2)).min() < 0.01


def test_noise_comes_last_and_only_if_asked():
    x = features(5)
    plain = ast_augment(x, generator(1), mean=1.0, std=2.0, freqm=3, timem=3)
    draws = generator(1)
    ast_spec_augment(x, draws, 3, 3)
    assert torch.equal(
        ast_augment(x, generator(1), mean=1.0, std=2.0, freqm=3, timem=3, noise=True), ast_noise_and_roll(plain, draws)
    )


def test_ast_augmentation_draws_from_the_generator_alone_and_leaves_its_input():
    x, state = features(), torch.get_rng_state()
    before = x.clone()
    settings = {"mean": 0.0, "std": 1.0, "freqm": 7, "timem": 5, "noise": True}
    first = ast_augment(x, generator(1), **settings)
    assert torch.equal(first, ast_augment(x, generator(1), **settings))
    assert not torch.equal(first, ast_augment(x, generator(2), **settings))
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(x, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, g: ast_spec_augment(x, g, 31, 5), "freqm must be between 0 and 30 .* got 31"),
        (lambda x, g: ast_spec_augment(x, g, 7, 21), "timem must be between 0 and 20 .* got 21"),
        (lambda x, g: ast_noise_and_roll(x[0], g), r"must be \(B, T, F\), got shape \(20, 30\)"),
        (lambda x, g: ast_augment(x, g, mean=0.0, std=0.0), "std must be positive"),
    ],
)
def test_bad_settings_of_ast_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(features(), generator())
