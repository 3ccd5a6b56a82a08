"""Alignment against plain loops in float64; known places, transpositions and tempi are found; what it refuses."""

import math

import numpy as np
import pytest
import torch

from tome_audio.retrieval.alignment import AlignOptions, Stretches, fit, judge, song_stretches, undone

RATE = 10.0
GENERATOR = torch.Generator().manual_seed(0)


def music(rows, seed, bins=40):
    """Peaks that last for a few rows."""
    rng = np.random.default_rng(seed)
    made = np.zeros((rows, bins))
    for _ in range(rows):
        at, bin_, length = rng.integers(rows), rng.integers(bins), rng.integers(2, 8)
        made[at : at + length, bin_] = rng.uniform(80, 255)
    return torch.from_numpy(made).round().to(torch.uint8)


OPTIONS = AlignOptions(every=2.0, seconds=4.0, semitones=(-2, 3), tempo=(0.8, 1.25), n_tempi=3)


def test_undone_is_the_original():
    original = music(40, 1)
    lower, bins = 3, 40
    heard = torch.zeros(20, bins)  # twice as fast, 3 up
    heard[:, lower:] = original[::2, : bins - lower].float()
    found = undone(heard, lower, 2.0)
    assert found.shape == (40, bins) and found[:, bins - lower :].eq(0).all()
    assert torch.cosine_similarity(found[:, :-lower].flatten(), original[:, :-lower].float().flatten(), 0) > 0.8
    torch.testing.assert_close(undone(original, 0, 1.0), original.float())
    assert torch.equal(undone(original, -2, 1.0)[:, 2:], original.float()[:, :-2])
    assert undone(original, 99, 1.0).eq(0).all()


def test_fit_against_a_plain_loop():
    song, original = music(60, 2), music(70, 3)
    stretches = song_stretches(song, RATE, OPTIONS)
    assert stretches.starts == (0, 20) and stretches.n_rows == 40 and len(stretches.ways) == 18
    found = fit(stretches, original)
    rows = original.double().numpy()
    for w, start in enumerate(stretches.starts):
        for k, (ratio, up) in enumerate(stretches.ways):
            kernel = undone(song[start : start + 40], up, ratio).double().numpy()
            scores = []
            for row in range(len(rows) - len(kernel) + 1):
                part = rows[row : row + len(kernel)]
                scores.append((part * kernel).sum() / ((np.linalg.norm(part) + 250) * (np.linalg.norm(kernel) + 250)))
            assert float(found.scores[w, k]) == pytest.approx(max(scores), rel=1e-4)
            assert scores[int(found.rows[w, k])] == pytest.approx(max(scores), rel=1e-5)


def test_bf16_is_right_to_two_digits():
    song, original = music(60, 2), music(70, 3)
    exact, fast = (
        fit(song_stretches(song, RATE, AlignOptions(seconds=3.0, n_tempi=3, precision=p)), original).scores
        for p in ("fp32", "bf16")
    )
    torch.testing.assert_close(fast, exact, atol=0.01, rtol=0)


def test_a_track_that_is_too_short_is_no_number():
    stretches = song_stretches(music(60, 2), RATE, OPTIONS)
    short = fit(stretches, music(40, 3)).scores
    ratios = torch.tensor([ratio for ratio, _ in stretches.ways])
    assert torch.equal(short.isnan()[0], (40 * ratios).round() > 40) and bool(short.isnan().any())
    assert fit(stretches, music(40, 3)[:0]).scores.isnan().all()


def flipped(original, start, rows, up, ratio):
    """Cut a stretch and change it, as a producer would."""
    cut = original[start : start + round(rows * ratio)]
    return undone(cut, -up, 1 / ratio)[:rows]


@pytest.mark.parametrize(("up", "ratio"), [(0, 1.0), (3, 0.8), (-2, 1.25)])
def test_the_right_track_place_and_changes_are_found(up, ratio):
    tracks = [music(200, seed) for seed in range(10, 22)]
    song = music(120, 99).float() * 0.7
    song[20:100] = torch.maximum(song[20:100], flipped(tracks[5], 60, 80, up, ratio))
    stretches = song_stretches(song.round().to(torch.uint8), RATE, OPTIONS)
    fits = [fit(stretches, track) for track in tracks]
    verdict = judge(torch.stack([each.scores for each in fits]), OPTIONS.n_tempi)
    assert int(verdict.scores.argmax()) == 5 and verdict.scores[5] > 1.5 * verdict.scores.sort().values[-2]
    stretch, way = int(verdict.stretches[5]), int(verdict.ways[5])
    assert stretches.ways[way][1] == up and stretches.ways[way][0] == pytest.approx(ratio, rel=0.01)
    begins = 60 + (stretches.starts[stretch] - 20) * ratio
    assert int(fits[5].rows[stretch, way]) == pytest.approx(begins, abs=2)


def naive_judge(scores, n_tempi, together):
    scores = scores.double().numpy()
    n_tracks, n_stretches, n_ways = scores.shape
    beyond = np.zeros_like(scores)
    for w in range(n_stretches):
        for k in range(n_ways):
            own = [s for s in scores[:, w, k] if not math.isnan(s)]
            mean = (sum(own) + 8 * 0.40) / (len(own) + 8)
            spread = math.sqrt((sum((s - mean) ** 2 for s in own) + 8 * 0.022**2) / (len(own) + 8))
            for t in range(n_tracks):
                beyond[t, w, k] = 0.0 if math.isnan(scores[t, w, k]) else (scores[t, w, k] - mean) / spread
    known = ~np.isnan(scores)
    for t in range(n_tracks):
        for w in range(n_stretches):
            beyond[t, w][known[t, w]] -= sum(beyond[t, w]) / (known[t, w].sum() + 8)
    pitches = n_ways // n_tempi
    found = []
    for t in range(n_tracks):
        best = -math.inf
        for k in range(n_ways):
            tempo, pitch = divmod(k, pitches)
            near = [x * pitches + pitch for x in (tempo - 1, tempo, tempo + 1) if 0 <= x < n_tempi]
            top = sorted((max(beyond[t, w, j] for j in near) for w in range(n_stretches)), reverse=True)[:together]
            best = max(best, sum(top) / len(top))
        found.append(best)
    scores = []
    for t in range(n_tracks):
        others = found[:t] + found[t + 1 :]
        mean = (sum(others) + 8 * 2.5) / (len(others) + 8)
        squares = sum((each - mean) ** 2 for each in others) + 8 * (0.43**2 + (2.5 - mean) ** 2)
        scores.append((found[t] - mean) / math.sqrt(squares / (len(others) + 8)))
    return scores


@pytest.mark.parametrize("together", [1, 2, 4])
@pytest.mark.parametrize(("n_tracks", "n_stretches"), [(7, 4), (1, 3), (5, 1)])
def test_judge_against_a_plain_loop(n_tracks, n_stretches, together):
    scores = 0.4 + 0.05 * torch.randn(n_tracks, n_stretches, 12, generator=GENERATOR)
    scores[0, 0, :5] = torch.nan
    verdict = judge(scores, 3, together)
    np.testing.assert_allclose(verdict.scores.numpy(), naive_judge(scores, 3, together), rtol=1e-4)


def test_a_stretch_that_fits_everything_says_nothing():
    scores = 0.4 + 0.02 * torch.randn(30, 4, 6, generator=GENERATOR)
    scores[:, 1] += 0.3  # as loud chords do
    scores[3, 2:, 4] += 0.15
    verdict = judge(scores, 3)
    assert int(verdict.scores.argmax()) == 3 and int(verdict.stretches[3]) in (2, 3) and int(verdict.ways[3]) == 4


def test_a_track_that_fits_in_every_way_says_nothing():
    scores = 0.4 + 0.02 * torch.randn(30, 4, 30, generator=GENERATOR)
    scores[5] += 0.15  # as one beat from beginning to end does
    scores[3, 2:, 4] += 0.15
    assert int(judge(scores, 5).scores.argmax()) == 3


def test_scores_of_a_song_that_fits_everything_better_are_those_of_another():
    scores = 0.4 + 0.02 * torch.randn(300, 4, 30, generator=GENERATOR)
    scores[3, 2:, 4] += 0.1
    plain = judge(scores, 5).scores
    scores += 0.02 * torch.randn(300, 1, 30, generator=GENERATOR)  # whole tracks are alike in some way
    busy = judge(scores, 5).scores
    for found in (plain, busy):
        others = torch.cat([found[:3], found[4:]])
        assert int(found.argmax()) == 3 and float(others.mean().abs()) < 0.15
        assert float(others.std()) == pytest.approx(1, abs=0.2)


def test_one_way_alone_can_be_told():
    scores = 0.4 + 0.02 * torch.randn(30, 4, 1, generator=GENERATOR)
    scores[3] += 0.2
    assert int(judge(scores, 1).scores.argmax()) == 3


def test_many_stretches_are_spread_over_a_long_song():
    made = song_stretches(music(5000, 1), RATE, AlignOptions(n_stretches=5, seconds=4.0, n_tempi=1, semitones=(0, 0)))
    assert made.starts == (0, 1240, 2480, 3720, 4960)
    short = song_stretches(music(12, 1), RATE, AlignOptions(n_tempi=1, semitones=(0, 0)))
    assert isinstance(short, Stretches) and short.starts == (0,) and short.n_rows == 12
    with pytest.raises(ValueError, match="empty"):
        song_stretches(music(12, 1)[:0], RATE, OPTIONS)


@pytest.mark.parametrize(
    "options",
    [{"n_tracks": -1}, {"n_tempi": 0}, {"seconds": 0.0}, {"every": 0.0}, {"tempo": (1.5, 0.7)}, {"semitones": (2, -2)}],
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=r"align\."):
        AlignOptions(**options)


def test_tempi_are_even_on_a_logarithmic_scale():
    tempi = AlignOptions(tempo=(0.5, 2.0), n_tempi=5).tempi
    np.testing.assert_allclose(np.diff(np.log(tempi)), np.log(2) / 2)
    assert AlignOptions(tempo=(0.5, 2.0), n_tempi=1).tempi == [1.0]
