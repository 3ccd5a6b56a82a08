from __future__ import annotations

import dataclasses
import math
import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from real_audio import DATA

from tome_audio.audio import SPECTRUM_FACTS, SpectrumFacts, WaveformAugmentation, WaveformViews, read_audio
from tome_audio.audio.waveform_augment import STEPS, noise_bounds
from tome_audio.audio.waveform_steps import seeded_globals, silence_parts, splice_out

pytest.importorskip("audiomentations", reason="extra fewshot")
ALWAYS = dict.fromkeys(STEPS, 1.0)
NEVER = dict.fromkeys(STEPS, 0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip(n: int = 16000) -> torch.Tensor:
    """Bursts of a harmonic sound over faint noise."""
    time = torch.arange(n) / 16000
    sound = sum(torch.sin(2 * math.pi * 220 * k * time) / k for k in range(1, 12))
    return 0.2 * sound * (torch.sin(2 * math.pi * 3 * time) > 0) + 0.01 * torch.randn(n, generator=generator(7))


def views(n_views: int = 4, sample_rate: int = 16000, **settings) -> WaveformViews:
    return WaveformViews(WaveformAugmentation.for_dataset("esc50", **settings), n_views, sample_rate)


def only(step: str, **settings) -> WaveformViews:
    return views(**{**NEVER, step: 1.0, **settings})


# what comes out


@pytest.mark.parametrize("dataset", SPECTRUM_FACTS)
@pytest.mark.parametrize("n_samples", [1, 2, 7, 100, 1000, 16000, 80000])
def test_every_change_at_once_keeps_length_and_is_finite(dataset, n_samples):
    out = WaveformViews(WaveformAugmentation.for_dataset(dataset, **ALWAYS))(clip(n_samples), generator())
    assert out.shape == (4, n_samples) and out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real audio in {DATA} (set TOME_AUDIO_DATA)")
def test_every_change_at_once_on_real_clips():
    paths = sorted((DATA / "esc50").rglob("*.flac"))[::300]
    assert paths
    for path in paths:
        waveform = read_audio(path)
        out = views(**ALWAYS)(waveform, generator())
        assert out.shape == (4, len(waveform)) and out.isfinite().all()


def test_the_first_view_is_the_original_and_the_others_differ():
    out = views(**ALWAYS)(clip(), generator())
    assert torch.equal(out[0], clip())
    assert len(out.unique(dim=0)) == 4


@pytest.mark.parametrize("sample_rate", [4000, 8000, 44100])
def test_other_rates(sample_rate):
    """At 4 kHz every cut-off of birdclef lies above half the rate."""
    augmentation = WaveformAugmentation.for_dataset("birdclef", **ALWAYS)
    assert WaveformViews(augmentation, 3, sample_rate)(clip(), generator()).isfinite().all()


def test_a_band_that_reaches_below_zero_hz():
    out = WaveformViews(WaveformAugmentation(SpectrumFacts(300.0, 2000.0, 0.9), **ALWAYS))(clip(), generator())
    assert out.isfinite().all()


def test_silence_stays_silence():
    assert not views(**ALWAYS)(torch.zeros(16000), generator()).any()


def test_nothing_drawn_nothing_changed():
    out = views(**NEVER)(clip(), generator())
    assert torch.equal(out, clip().expand(4, -1))


def test_one_view_is_the_original():
    assert torch.equal(views(n_views=1)(clip(), generator()), clip()[None])


def test_the_input_stays_and_is_not_shared():
    waveform = clip()
    for settings in (ALWAYS, NEVER):
        views(**settings)(waveform, generator()).zero_()
    assert torch.equal(waveform, clip())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtype_is_kept(dtype):
    out = views(**ALWAYS)(clip().to(dtype).requires_grad_(), generator())
    assert out.dtype == dtype and not out.requires_grad and torch.equal(out[0], clip().to(dtype))


# seeding


def test_the_generator_alone_decides():
    random.seed(1)
    first = views(**ALWAYS)(clip(), generator(1))
    random.seed(2)
    assert torch.equal(first, views(**ALWAYS)(clip(), generator(1)))
    assert not torch.equal(first[1:], views(**ALWAYS)(clip(), generator(2))[1:])


def test_calls_in_turn_differ():
    draws = generator()
    assert not torch.equal(views(**ALWAYS)(clip(), draws), views(**ALWAYS)(clip(), draws))


def global_states() -> str:
    of_numpy = np.random.get_state()  # noqa: NPY002
    return repr((random.getstate(), of_numpy[1].tolist(), of_numpy[2:], torch.get_rng_state().tolist()))


def test_global_random_states_are_untouched():
    before = global_states()
    views(**ALWAYS)(clip(), generator())
    assert global_states() == before


def test_global_random_states_come_back_after_an_error():
    before = global_states()
    with pytest.raises(RuntimeError), seeded_globals(3):
        assert global_states() != before
        raise RuntimeError
    assert global_states() == before


def test_threads_get_what_one_gets_alone():
    augment, seeds = views(**ALWAYS), range(8)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: augment(clip(), generator(seed)), seeds))
    assert all(torch.equal(out, augment(clip(), generator(seed))) for seed, out in zip(seeds, together, strict=True))


def test_views_pickle():
    augment = views(**ALWAYS)
    assert torch.equal(pickle.loads(pickle.dumps(augment))(clip(), generator()), augment(clip(), generator()))


def test_a_probability_is_how_often_a_change_is_made():
    out = views(n_views=401, **{**NEVER, "gain": 0.25})(clip(100), generator())
    changed = (out != out[0]).any(dim=1).sum().item()
    assert 70 < changed < 130


# the changes one by one


def power_between(waveforms: torch.Tensor, low: float, high: float) -> torch.Tensor:
    hz = torch.fft.rfftfreq(waveforms.shape[-1], 1 / 16000)
    return torch.fft.rfft(waveforms).abs().square()[..., (hz >= low) & (hz < high)].sum(-1)


def test_filters_go_by_the_facts():
    """ESC-50: low-pass cut-offs from 1191 to 2025 Hz, high-pass and band-stop around 357 to 1191 Hz."""
    white = torch.randn(16000, generator=generator())
    kept = {name: only(name)(white, generator()) for name in ("low_pass", "high_pass", "band_stop")}
    for name, low, high, gone in (
        ("low_pass", 5000, 8000, True),
        ("low_pass", 50, 900, False),
        ("high_pass", 20, 100, True),
        ("high_pass", 2500, 8000, False),
        ("band_stop", 6000, 8000, False),
    ):
        power = power_between(kept[name], low, high)
        assert ((power[1:] < 0.1 * power[0]) if gone else (power[1:] > 0.6 * power[0])).all(), name
    stopped = power_between(kept["band_stop"], 357, 1191)
    assert (stopped[1:] < 0.7 * stopped[0]).all()


def test_pitch_shift_moves_a_tone_by_at_most_four_semitones():
    tone = torch.sin(2 * math.pi * 1000 / 16000 * torch.arange(16000))
    out = only("pitch_shift", n_views=20)(tone, generator())
    semitones = 12 * (torch.fft.rfft(out).abs().argmax(dim=1) / 1000).log2()
    assert semitones[1:].abs().max() <= 4.1 and semitones[1:].std() > 1 and semitones[0] == 0


def test_shift_rolls_over():
    for out in only("shift", n_views=5)(clip(1000), generator())[1:]:
        by = [n for n in range(-500, 501) if torch.equal(out, clip(1000).roll(n))]
        assert by


def test_reversal_and_gain():
    assert torch.equal(only("reversal")(clip(), generator())[1], clip().flip(0))
    ratio = only("gain", n_views=50)(clip(100), generator())[1:] / clip(100)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4)
    db = 20 * ratio[:, 0].log10()
    assert db.abs().max() <= 6.001 and db.min() < -3 and db.max() > 3


def test_noise_lies_within_the_signal_to_noise_ratios_and_is_coloured():
    out = only("noise", n_views=40)(clip(), generator())
    added = out[1:] - clip()
    snr = 10 * (clip().square().mean() / added.square().mean(dim=1)).log10()
    assert snr.min() >= 3 - 0.01 and snr.max() <= 30.01
    tilt = power_between(added, 4000, 8000) / power_between(added, 500, 1000)
    assert tilt.max() / tilt.min() > 10


def test_flat_data_gets_louder_noise():
    def mean_bounds(flatness):
        augmentation, draws = WaveformAugmentation(SpectrumFacts(1000.0, 1000.0, flatness)), random.Random(0)
        bounds = np.array([noise_bounds(augmentation, draws) for _ in range(200)])
        split = min(max(30 * (1 - flatness), 3), 30)
        assert (bounds[:, 0] <= split).all() and (bounds[:, 1] >= split).all()
        assert bounds.min() >= 3 and bounds.max() <= 30
        return bounds.mean()

    assert mean_bounds(0.0) > mean_bounds(0.4) > mean_bounds(1.0)


def test_stretch_keeps_pitch_and_length():
    tone = torch.sin(2 * math.pi * 1000 / 16000 * torch.arange(16000))
    out = only("stretch")(tone, generator())
    assert out.shape == (4, 16000) and (torch.fft.rfft(out).abs().argmax(dim=1) - 1000).abs().max() < 10
    assert not torch.allclose(out[1], tone, atol=0.1)


@pytest.mark.parametrize("n_samples", [1, 9, 10, 500, 16000, 80000])
def test_splice_out_keeps_what_it_does_not_cut_in_order_and_ends_in_zeros(n_samples):
    ramp = np.arange(1, n_samples + 1, dtype=np.float32)
    out = splice_out(ramp, random.Random(0), 8, 6400, 16000)
    left = int((out != 0).sum())
    assert len(out) == n_samples and not out[left:].any()
    assert 0.2 * n_samples <= left and (left < n_samples or n_samples < 10)
    assert left <= 0.9 * n_samples or n_samples < 500
    assert (np.diff(out[:left]) > 0).all()  # a cross-fade of the two sides of a cut lies between them
    assert np.array_equal(ramp, np.arange(1, n_samples + 1))


def test_splice_out_cuts_no_more_than_the_longest_interval():
    out = splice_out(np.ones(80000, np.float32), random.Random(0), 1, 100, 16000)
    assert 79900 <= out.sum() < 80000


def test_time_masks_are_five_of_one_per_cent():
    out = only("time_mask", n_views=30)(torch.ones(10000), generator())
    silent = (out == 0).sum(dim=1)
    assert silent[0] == 0 and silent.max() == 500 and silent[1:].min() > 200
    ones = np.ones(50, np.float32)
    assert silence_parts(ones, random.Random(0), 5, 0.01).all() and ones.all()  # half a sample: none


# what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views()(torch.zeros(2, 100), generator()), r"must be a tensor of shape \(T,\)"),
        (lambda: views()(torch.zeros(0), generator()), "T >= 1"),
        (lambda: views()(torch.zeros(9, dtype=torch.int16), generator()), "must have a float dtype"),
        (lambda: views()(torch.tensor([0.0, math.nan]), generator()), "NaN or infinite samples"),
        (lambda: views(gain=1.5), r"gain is a probability in \[0, 1\], got 1.5"),
        (lambda: views(time_mask=-0.1), "time_mask is a probability"),
        (lambda: views(semitones=25), "semitones must be between 0 and 24, got 25"),
        (lambda: views(mask_part=math.nan), "mask_part must be between 0 and 1, got nan"),
        (lambda: views(n_splices=-1), "n_splices must be between 0 and 100, got -1"),
        (lambda: views(snr_db=(9.0, 3.0)), "snr_db must be a lower and a higher number .* got 9.0 and 3.0"),
        (lambda: views(n_views=0), "n_views must be at least 1, got 0"),
        (lambda: views(sample_rate=0), "sample_rate must be at least 1, got 0"),
        (lambda: WaveformAugmentation.for_dataset("voxceleb"), "'voxceleb': choose one of .* measure the clips"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_audiomentations_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(ImportError, match=r"waveform augmentation needs audiomentations.*'tome_audio\[fewshot\]'"):
        views()(clip(), generator())


def test_steps_are_the_probabilities_in_the_published_order():
    assert (
        *("low_pass", "pitch_shift", "shift", "reversal", "gain", "noise", "high_pass", "band_stop"),
        *("splice_out", "stretch", "time_mask"),
    ) == STEPS
    defaults = {field.name: field.default for field in dataclasses.fields(WaveformAugmentation)}
    assert defaults["reversal"] == defaults["stretch"] == 0
