"""Few-shot scores against plain Python."""

import math
import statistics
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.metrics import confusion_counts, majority_vote, mean_and_interval

TIES = ("first", "min_label", "max_posterior")


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_mean_and_interval_are_their_definitions(values):
    found = mean_and_interval(torch.tensor(values, dtype=torch.float64))
    assert found.n == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert found.half_width == pytest.approx(1.96 * statistics.stdev(values) / math.sqrt(len(values)), abs=1e-9)


def test_the_published_interval_of_ten_thousand_tasks():
    """A spread of 19.52 points over 10,000 tasks is printed as 0.38."""
    values = torch.tensor([50 - 19.52, 50 + 19.52]).repeat(5000)
    found = mean_and_interval(values)
    assert found.mean == pytest.approx(50) and round(found.half_width, 2) == 0.38


def test_one_value_has_no_interval():
    found = mean_and_interval(torch.tensor([0.5]))
    assert found.mean == 0.5 and math.isnan(found.half_width) and found.n == 1


def naive_vote(labels, scores, ties):
    counts = Counter(labels)
    tied = [label for label in counts if counts[label] == max(counts.values())]
    if ties == "first":
        return tied[0]
    if ties == "min_label":
        return min(tied)
    surest = {label: max(max(row) for row, of in zip(scores, labels, strict=True) if of == label) for label in tied}
    return min(label for label in tied if surest[label] == max(surest.values()))


@pytest.mark.parametrize("ties", TIES)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), n_classes=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_votes_are_counted(ties, sizes, n_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    clip = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    clip = clip[torch.randperm(len(clip), generator=generator)]
    labels = torch.randint(n_classes, clip.shape, generator=generator)
    scores = torch.randint(-4, 0, (len(clip), n_classes), generator=generator) / 2  # equal scores are frequent
    found = majority_vote(labels, scores, clip, len(sizes), ties)
    assert found.dtype == torch.int64
    for k in range(len(sizes)):
        mine = clip == k
        assert found[k] == naive_vote(labels[mine].tolist(), scores[mine].tolist(), ties)


def test_the_three_rules_differ():
    labels, clip = torch.tensor([2, 1, 1, 2, 0, 0]), torch.zeros(6, dtype=torch.int64)
    scores = torch.full((6, 3), -5.0)
    scores[2, 0] = -1.0  # the surest segment is one of label 1, though its largest score is not that of label 1
    found = {ties: majority_vote(labels, scores, clip, 1, ties).item() for ties in TIES}
    assert found == {"first": 2, "min_label": 0, "max_posterior": 1}


def test_a_majority_wins_over_any_score():
    labels, clip = torch.tensor([0, 1, 1]), torch.zeros(3, dtype=torch.int64)
    scores = torch.tensor([[9.0, 0.0], [-1.0, -1.0], [-torch.inf, -torch.inf]])
    for ties in TIES:
        assert majority_vote(labels, scores, clip, 1, ties) == 1


@given(n_clips=st.integers(0, 20), n_classes=st.integers(2, 5), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_confusion_counts_are_counts(n_clips, n_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    truth, answer = torch.randint(n_classes, (2, n_clips), generator=generator)
    found = confusion_counts(truth, answer, n_classes)
    pairs = Counter(zip(truth.tolist(), answer.tolist(), strict=True))
    assert found.tolist() == [[pairs[i, j] for j in range(n_classes)] for i in range(n_classes)]


ONE = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_and_interval(torch.zeros(0)), "at least one number"),
        (lambda: mean_and_interval(torch.zeros(2, 2)), r"shape \(2, 2\)"),
        (lambda: mean_and_interval(torch.tensor([1.0, math.nan])), "1 of 2 values are NaN"),
        (lambda: majority_vote(ONE, torch.zeros(2, 3), ONE, 1, "last"), "first, min_label, max_posterior, got 'last'"),
        (lambda: majority_vote(ONE, torch.zeros(2, 3), ONE, 3), "clips 1, 2 have no segment"),
        (lambda: majority_vote(ONE + 3, torch.zeros(2, 3), ONE, 1), "labels must be from 0 to 2, got 3 to 3"),
        (lambda: majority_vote(ONE, torch.zeros(2, 3), ONE - 1, 1), "clip must be from 0 to 0, got -1"),
        (lambda: majority_vote(ONE, torch.zeros(3, 3), ONE, 1), "one row per label"),
        (lambda: majority_vote(ONE, torch.zeros(2, 3), ONE[:1], 1), r"clip must be int64 \(2,\)"),
        (lambda: majority_vote(ONE, torch.full((2, 3), math.nan), ONE, 1), "scores hold NaN"),
        (lambda: confusion_counts(ONE, ONE + 2, 2), "answer must be from 0 to 1, got 2 to 2"),
        (lambda: confusion_counts(ONE, ONE, 1), "between at least 2 classes"),
        (lambda: confusion_counts(ONE, ONE[:1], 2), r"answer must be int64 class indices \(2,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
