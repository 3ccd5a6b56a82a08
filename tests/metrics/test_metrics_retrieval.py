"""Scores of rankings against their definitions, counted in plain Python."""

import math
import statistics
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.metrics import localisation_scores, presence_scores, retrieval_scores, with_interval
from tome_audio.metrics.retrieval import places

classification = pytest.importorskip("torchmetrics.functional.classification")
seeds = st.integers(0, 10**6)


def drawn(n_songs, n_references, levels, seed, rate=0.3):
    """Scores on both sides of zero, with ties where there are few levels, and at least one sampled record each."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (n_songs, n_references), generator=generator).double() - levels // 2
    relevant = torch.rand(n_songs, n_references, generator=generator) < rate
    relevant[torch.arange(n_songs), torch.randint(n_references, (n_songs,), generator=generator)] = True
    return scores, relevant


def naive_places(scores, relevant):
    """Where each sampled record stands when of equal scores those that are not sampled come first."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i]))
    return sorted(order.index(i) + 1 for i in range(len(scores)) if relevant[i])


@given(n_songs=st.integers(1, 6), n_references=st.integers(1, 12), levels=st.sampled_from([1, 3, 10**6]), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_ranking_scores_are_their_definitions(n_songs, n_references, levels, seed):
    scores, relevant = drawn(n_songs, n_references, levels, seed)
    found = retrieval_scores(scores, relevant, resamples=10)
    stand = [naive_places(own, is_it) for own, is_it in zip(scores.tolist(), relevant.tolist(), strict=True)]
    precision = [statistics.mean((i + 1) / place for i, place in enumerate(own)) for own in stand]
    assert found.average_precision.tolist() == pytest.approx(precision, abs=1e-6)
    assert found.mean_ap.value == pytest.approx(statistics.mean(precision), abs=1e-6)
    assert found.best_place.tolist() == [own[0] for own in stand]
    for k in (1, 3, 10):
        assert getattr(found, f"hit_rate_{k}").value == pytest.approx(statistics.mean(own[0] <= k for own in stand))
    rank = [own[0] / n_references for own in stand]
    assert found.median_rank.value == pytest.approx(statistics.median(rank))
    assert found.mean_rank.value == pytest.approx(statistics.mean(rank))


def test_distractors_count_and_scores_below_zero_too():
    scores = torch.tensor([[-0.4, -0.1, -0.2, -0.9], [0.1, 0.2, 0.3, 0.4]])
    relevant = torch.tensor([[False, False, True, True], [True, False, False, False]])
    found = retrieval_scores(scores, relevant)
    assert found.average_precision.tolist() == pytest.approx([(1 / 2 + 2 / 4) / 2, 1 / 4])
    assert (found.hit_rate_1.value, found.hit_rate_3.value, found.hit_rate_10.value) == (0.0, 0.5, 1.0)
    assert found.median_rank.value == pytest.approx((2 / 4 + 4 / 4) / 2)


def test_what_never_matched_is_last_and_a_constant_score_gains_nothing():
    relevant = torch.tensor([[True, False, False]])
    for scores in (torch.full((1, 3), -torch.inf), torch.zeros(1, 3)):
        assert places(scores, relevant).tolist() == [[3, 1, 2]]
        assert retrieval_scores(scores, relevant).mean_ap.value == pytest.approx(1 / 3)


def naive_auc(found, missing):
    return statistics.mean((a > b) + 0.5 * (a == b) for a in found for b in missing)


def naive_fpr(found, missing):
    """The false positives at the largest threshold that finds 95 % of the songs with a sample."""
    for threshold in sorted(set(found + missing), reverse=True):
        if Fraction(sum(a >= threshold for a in found), len(found)) >= Fraction(95, 100):
            return statistics.mean(b >= threshold for b in missing)
    raise AssertionError


@given(n_with=st.integers(1, 45), n_without=st.integers(1, 12), levels=st.sampled_from([2, 5, 10**6]), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_songs_with_a_sample_are_told_from_songs_without(n_with, n_without, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (n_with + n_without,), generator=generator).double() * 40 / levels - 20
    with_sample, without = scores[:n_with], scores[n_with:]
    found = presence_scores(with_sample, without, resamples=10)
    assert found.auroc.value == pytest.approx(naive_auc(with_sample.tolist(), without.tolist()), abs=1e-6)
    assert found.fpr_at_95_tpr.value == pytest.approx(naive_fpr(with_sample.tolist(), without.tolist()))
    ranks = scores.unique(return_inverse=True)[1].double() / (n_with + n_without + 1)
    truth = (torch.arange(len(scores)) < n_with).long()
    specificity, _ = classification.binary_specificity_at_sensitivity(ranks, truth, min_sensitivity=0.95)
    assert found.fpr_at_95_tpr.value == pytest.approx(1 - float(specificity), abs=1e-6)


def test_places_count_by_the_nearest_occurrence_and_both_sides_by_the_same_one():
    occurrences = torch.tensor([[0.0, 20.0], [10.0, 2.0]])
    estimates = torch.tensor([[14.9, 3.0], [5.2, 2.0], [0.0, 2.0], [100.0, 20.0]])
    found = localisation_scores(estimates, [occurrences] * 4)
    # The third is right in the song by one occurrence and right in the record by the other.
    assert (found.localised.value, found.localised_song.value, found.localised_original.value) == (0.5, 0.75, 1.0)
    assert found.n_hits == 4
    assert localisation_scores(estimates, [occurrences] * 4, within=4.0).localised.value == 0.0
    exact = localisation_scores(torch.tensor([[5.0, 0.0]]), [torch.zeros(1, 2)])
    assert exact.localised.value == 1.0 and math.isnan(exact.localised.low)


def test_without_hits_nothing_is_localised():
    found = localisation_scores(torch.zeros(0, 2), [])
    assert found.n_hits == 0 and all(math.isnan(value) for value in found.figures().values())


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for trial in range(200):
        interval = with_interval(lambda v: v.mean(1), torch.rand(40, generator=generator), resamples=300, seed=trial)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_intervals_are_seeded_and_hold_their_figure():
    scores, relevant = drawn(30, 20, 10**6, 3, rate=0.02)
    first, again = (retrieval_scores(scores, relevant, seed=5).figures() for _ in range(2))
    other = retrieval_scores(scores, relevant, seed=6).figures()
    assert first == again and first != other
    for name in ("mean_ap", "hit_rate_1", "hit_rate_3", "hit_rate_10", "median_rank", "mean_rank"):
        assert first[f"{name}_low"] < first[name] < first[f"{name}_high"], name
    presence = presence_scores(scores[:, 0] + 400_000, scores[:, 1]).figures()
    assert presence["auroc_low"] < presence["auroc"] < presence["auroc_high"] <= 1
    assert presence["fpr_at_95_tpr_low"] <= presence["fpr_at_95_tpr"] <= presence["fpr_at_95_tpr_high"]


@pytest.mark.parametrize(
    ("scores", "relevant", "said"),
    [
        (torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool), "one truth each"),
        (torch.zeros(2, 0), torch.ones(2, 0, dtype=torch.bool), "one truth each"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool), "floating-point"),
        (torch.zeros(2, 3), torch.ones(2, 3), "True or False"),
        (torch.full((2, 3), torch.nan), torch.ones(2, 3, dtype=torch.bool), "NaN"),
        (torch.zeros(2, 3), torch.tensor([[True] * 3, [False] * 3]), "songs 1 sample none"),
    ],
)
def test_rankings_that_cannot_be_scored(scores, relevant, said):
    with pytest.raises(ValueError, match=said):
        retrieval_scores(scores, relevant)


def test_other_input_that_cannot_be_scored(monkeypatch):
    for values in (torch.zeros(0), torch.zeros(2, 2), torch.tensor([torch.nan]), torch.zeros(2, dtype=torch.int64)):
        with pytest.raises(ValueError, match="at least one song"):
            presence_scores(values, torch.zeros(3))
        with pytest.raises(ValueError, match="at least one song"):
            presence_scores(torch.zeros(3), values)
    with pytest.raises(ValueError, match="positive error"):
        localisation_scores(torch.zeros(1, 3), [torch.zeros(1, 2)])
    with pytest.raises(ValueError, match="at least one occurrence"):
        localisation_scores(torch.zeros(1, 2), [torch.zeros(0, 2)])
    with pytest.raises(ValueError, match="finite"):
        localisation_scores(torch.full((1, 2), torch.inf), [torch.zeros(1, 2)])
    with pytest.raises(ValueError, match="at least one resample"):
        with_interval(lambda v: v.mean(1), torch.zeros(0))
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.retrieval", None)
    with pytest.raises(ImportError, match=r"tome_audio\[sampleid\]"):
        retrieval_scores(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
