from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from tome_audio.audio import SpecViews, frequency_masks, time_masks, time_warp

ESC50 = SpecViews(mask_param=7, p=0.3127, num_mask=2, W=20)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(n_clips: int = 4, n_frames: int = 157, n_bins: int = 128) -> torch.Tensor:
    return torch.rand(n_clips, n_frames, n_bins, generator=generator(9)) + 1  # no zeros


def runs(mask: torch.Tensor) -> torch.Tensor:
    """How many runs of true every row of (B, T) has."""
    return (torch.diff(mask.int(), prepend=torch.zeros(len(mask), 1, dtype=torch.int32), dim=1) == 1).sum(1)


# the four views


def test_views_are_original_warped_time_masked_frequency_masked_in_this_order():
    x = features()
    views = ESC50(x, generator())
    assert views.shape == (4, 4, 157, 128)
    original, warped, in_time, in_frequency = views.unbind(1)
    assert torch.equal(original, x)
    assert not (warped == 0).any() and not torch.equal(warped, x)
    stretches = (in_time == 0).all(2)
    bands = (in_frequency == 0).all(1)
    assert torch.equal(in_time == 0, stretches[:, :, None].expand_as(x)) and stretches.any(1).all()
    assert torch.equal(in_frequency == 0, bands[:, None, :].expand_as(x)) and bands.any(1).all()
    assert torch.equal(in_time[in_time != 0], x[in_time != 0])


def test_views_are_those_of_the_functions_drawn_in_turn():
    views, draws = SpecViews(9, 0.2, 3, 11, mask_value=5.0, shared=False)(features(), generator(3)), generator(3)
    options = {"n_masks": 3, "mask_value": 5.0, "shared": False}
    assert torch.equal(views[:, 1], time_warp(features(), draws, 11))
    assert torch.equal(views[:, 2], time_masks(features(), draws, 9, 0.2, **options))
    assert torch.equal(views[:, 3], frequency_masks(features(), draws, 9, **options))


def test_randomness_is_the_generators_alone_and_the_input_stays():
    x, state = features(), torch.get_rng_state()
    before = x.clone()
    first = ESC50(x, generator(1))
    assert torch.equal(first, ESC50(x, generator(1)))
    assert not torch.equal(first, ESC50(x, generator(2)))
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    assert ESC50(features().to(dtype), generator()).dtype == dtype


def test_views_pickle():
    assert pickle.loads(pickle.dumps(ESC50)) == ESC50


# masks


@pytest.mark.parametrize("axis", [1, 2], ids=["time", "frequency"])
def test_every_width_from_one_to_the_widest_comes_up_and_both_ends_are_reached(axis):
    x = features(400, 20, 21)
    masked = time_masks(x, generator(), 5, 1.0, shared=False) if axis == 1 else None
    if masked is None:
        masked = frequency_masks(x, generator(), 5, shared=False)
    spans = (masked == 0).all(3 - axis)
    assert (runs(spans) == 1).all()
    assert set(spans.sum(1).tolist()) == {1, 2, 3, 4, 5}
    assert spans[:, 0].any() and spans[:, -1].any()


def test_a_time_mask_covers_no_more_than_its_part_of_the_frames():
    x = features(200, 50, 8)
    widths = (time_masks(x, generator(), 40, 0.1, shared=False) == 0).all(2).sum(1)
    assert widths.max() == 5 and widths.min() == 1
    assert torch.equal(time_masks(x, generator(), 40, 0.01), x)  # less than one frame


def test_the_number_of_masks():
    spans = (time_masks(features(300), generator(), 3, 0.5, n_masks=3, shared=False) == 0).all(2)
    assert runs(spans).max() == 3


@pytest.mark.parametrize(
    "mask", [lambda x, g, **o: time_masks(x, g, 9, 0.5, **o), lambda x, g, **o: frequency_masks(x, g, 9, **o)]
)
def test_masks_are_shared_by_the_batch_or_a_clips_own(mask):
    x = features(16)
    shared, own = mask(x, generator(), shared=True) == 0, mask(x, generator(), shared=False) == 0
    assert (shared == shared[:1]).all() and shared.any()
    assert len(own.flatten(1).unique(dim=0)) > 8


def test_mask_value():
    assert (time_masks(features(), generator(), 9, 0.5, mask_value=-3.5) == -3.5).any()
    assert (frequency_masks(features(), generator(), 9, mask_value=-3.5) == -3.5).any()


# warp


def frame_numbers(n_clips: int, n_frames: int) -> torch.Tensor:
    return torch.arange(n_frames, dtype=torch.float64)[None, :, None].expand(n_clips, -1, 3)


@pytest.mark.parametrize(("n_frames", "max_warp"), [(157, 36), (157, 1), (7, 3), (41, 20)])
def test_time_runs_forwards_between_fixed_ends(n_frames, max_warp):
    source = time_warp(frame_numbers(500, n_frames), generator(), max_warp)[:, :, 0]
    assert (source[:, 0] == 0).all() and torch.allclose(source[:, -1], torch.tensor(n_frames - 1.0).double())
    assert (source.diff(dim=1) > -1e-9).all()
    moved = (source - torch.arange(n_frames)).abs().amax(1)
    assert max_warp - 1 <= moved.max() and (max_warp > 5 or moved.max() > 0.9)


def test_one_frame_lands_where_its_shift_says():
    max_warp, n_frames = 20, 157
    draws = generator(5)
    point = torch.randint(max_warp, n_frames - max_warp, (300,), generator=draws)
    shift = torch.randint(-max_warp, max_warp, (300,), generator=draws)
    source = time_warp(frame_numbers(300, n_frames), generator(5), max_warp)[:, :, 0]
    landed = (point + shift).clamp(min=1)
    assert torch.allclose(source[torch.arange(300), landed], point.double())
    still = shift == 0
    assert still.any() and torch.allclose(source[still], torch.arange(n_frames).double().expand(int(still.sum()), -1))


def test_the_warp_is_smooth_where_its_two_halves_meet():
    point = torch.randint(50, 951, (200,), generator=generator())
    steps = time_warp(frame_numbers(200, 1001), generator(), 50)[:, :, 0].diff(dim=1)
    steps = steps[(point > 200) & (point < 800)]
    assert steps.max() > 1.1 and steps.min() < 0.9
    assert steps.diff(dim=1).abs().max() < 0.01  # two straight lines would differ by up to 0.3 where they meet


def test_frames_are_interpolated_between_neighbours_and_bins_never_mixed():
    x = features(8, 40, 5)
    source = time_warp(frame_numbers(8, 40), generator(2), 10)[:, :, 0]
    out = time_warp(x.double(), generator(2), 10)
    for clip, frame in ((0, 7), (3, 20), (7, 33)):
        at = source[clip, frame].item()
        low = min(int(at), 38)
        wanted = x[clip, low].double() * (low + 1 - at) + x[clip, low + 1].double() * (at - low)
        assert torch.allclose(out[clip, frame], wanted)


def test_frames_and_mel_bins_are_not_swapped():
    """Constant in time, a clip is unchanged by a warp of time; on a square, where shapes would not tell."""
    spectrum = torch.rand(1, 1, 64, generator=generator(1)).expand(4, 64, 64)
    assert torch.allclose(time_warp(spectrum, generator(), 15), spectrum)
    assert not torch.allclose(time_warp(spectrum.transpose(1, 2), generator(), 15), spectrum.transpose(1, 2), atol=0.01)


def test_no_warp():
    x = features()
    out = time_warp(x, generator(), 0)
    assert torch.equal(out, x) and out.data_ptr() != x.data_ptr()


# what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, g: ESC50(x[:, :40], g), "a warp of 20 frames needs more than 40 frames, got 40: use at most 19"),
        (lambda x, g: time_warp(x, g, -1), "the warp must not be negative, got -1"),
        (lambda x, g: ESC50(x[0], g), r"must be \(B, T, F\), got shape \(157, 128\)"),
        (lambda x, g: time_masks(x[0], g, 3, 0.5), r"must be \(B, T, F\)"),
        (lambda x, g: frequency_masks(x[0], g, 3), r"must be \(B, T, F\)"),
        (lambda x, g: frequency_masks(x, g, 129), "max_width must be at most the 128 mel bins .* got 129"),
        (lambda x, g: time_masks(x, g, 0, 0.5), "at least 1, got 0 and 1"),
        (lambda x, g: time_masks(x, g, 3, 1.5), r"max_part is a part of the frames in \[0, 1\], got 1.5"),
        (lambda x, g: dataclasses.replace(ESC50, p=-0.1), r"p is a part of the frames in \[0, 1\], got -0.1"),
        (lambda x, g: dataclasses.replace(ESC50, mask_param=0), "mask_param must be at least 1, got 0"),
        (lambda x, g: dataclasses.replace(ESC50, num_mask=0), "num_mask must be at least 1, got 0"),
        (lambda x, g: dataclasses.replace(ESC50, W=-2), "W must be at least 0, got -2"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(features(), generator())


def test_the_largest_warp_of_the_message_fits():
    assert time_warp(features(2, 40), generator(), 19).isfinite().all()
    assert time_warp(features(2, 1), generator(), 0).shape == (2, 1, 128)
