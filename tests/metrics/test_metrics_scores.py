"""Scores against their definitions, counted in plain Python."""

import math
import sys
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.metrics import d_prime, multi_label_scores, per_class_rows, single_label_scores

seeds = st.integers(0, 10**6)


def naive_ap(answers, truth):
    """The sum over distinct thresholds, from above, of (recall gained) times precision."""
    total, recall, n_positives = 0.0, 0.0, sum(truth)
    for threshold in sorted(set(answers), reverse=True):
        heard = [t for a, t in zip(answers, truth, strict=True) if a >= threshold]
        total += (sum(heard) / n_positives - recall) * sum(heard) / len(heard)
        recall = sum(heard) / n_positives
    return total


def naive_auc(answers, truth):
    """How often a positive clip has the higher answer; half a point for equal ones."""
    positives = [a for a, t in zip(answers, truth, strict=True) if t]
    negatives = [a for a, t in zip(answers, truth, strict=True) if not t]
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def mean(values):
    return sum(values) / len(values) if values else math.nan


@given(n_clips=st.integers(1, 12), n_classes=st.integers(1, 5), seed=seeds, levels=st.sampled_from([2, 5, 10**6]))
@settings(max_examples=80, deadline=None)
def test_multi_label_scores_are_their_definitions(n_clips, n_classes, seed, levels):
    generator = torch.Generator().manual_seed(seed)
    answers = 40.0 * torch.randint(levels, (n_clips, n_classes), generator=generator) / levels - 20
    truth = torch.randint(2, (n_clips, n_classes), generator=generator)
    found = multi_label_scores(answers, truth.float())
    aps, aucs = [], []
    for k in range(n_classes):
        column, labels = answers[:, k].tolist(), truth[:, k].tolist()
        if any(labels):
            aps.append(naive_ap(column, labels))
            assert found.average_precision[k].item() == pytest.approx(aps[-1], abs=1e-6)
        else:
            assert found.average_precision[k].isnan()
        if any(labels) and not all(labels):
            aucs.append(naive_auc(column, labels))
            assert found.auc[k].item() == pytest.approx(aucs[-1], abs=1e-6)
            if 0 < aucs[-1] < 1:
                wanted = math.sqrt(2) * NormalDist().inv_cdf(aucs[-1])
                assert found.class_d_prime[k].item() == pytest.approx(wanted, abs=1e-4)
        else:
            assert found.auc[k].isnan() and found.class_d_prime[k].isnan()
    assert found.mean_ap == pytest.approx(mean(aps), abs=1e-6, nan_ok=True)
    assert found.mean_auc == pytest.approx(mean(aucs), abs=1e-6, nan_ok=True)
    assert found.n_without_positives == n_classes - len(aps) and found.n_clips == n_clips
    assert found.n_without_negatives == sum(truth[:, k].all().item() for k in range(n_classes))
    assert found.n_positives.tolist() == truth.sum(0).tolist()


def test_large_logits_are_not_made_equal():
    """A float32 sigmoid gives 1 for both 20 and 30, and would call this a tie."""
    answers, truth = torch.tensor([[20.0], [30.0], [40.0]]), torch.tensor([[0], [1], [1]])
    found = multi_label_scores(answers, truth)
    assert found.mean_ap == 1 and found.mean_auc == 1 and found.d_prime == math.inf
    assert multi_label_scores(answers.sigmoid(), truth).mean_auc == 0.5


def test_logits_and_probabilities_score_the_same():
    answers, truth = torch.randn(50, 4, dtype=torch.float64), torch.randint(2, (50, 4))
    assert multi_label_scores(answers, truth).mean_ap == multi_label_scores(answers.sigmoid(), truth).mean_ap


@pytest.mark.parametrize(("auc", "wanted"), [(0.5, 0.0), (0.975, 2.7718), (0.92, 1.98707), (0.08, -1.98707)])
def test_d_prime(auc, wanted):
    assert d_prime(auc) == pytest.approx(wanted, abs=1e-4)


def test_d_prime_at_its_ends():
    assert d_prime(1.0) == math.inf and d_prime(0.0) == -math.inf and math.isnan(d_prime(math.nan))
    with pytest.raises(ValueError, match="from 0 to 1, got 92"):
        d_prime(92)


@given(n_clips=st.integers(1, 20), n_classes=st.integers(2, 6), seed=seeds, as_logits=st.booleans())
@settings(max_examples=80, deadline=None)
def test_single_label_scores_are_their_definitions(n_clips, n_classes, seed, as_logits):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_clips, n_classes, generator=generator)
    target = torch.randint(n_classes, (n_clips,), generator=generator)
    found = single_label_scores(logits if as_logits else logits.argmax(1), target, None if as_logits else n_classes)
    pairs = list(zip(logits.argmax(1).tolist(), target.tolist(), strict=True))
    scores = []
    for k in range(n_classes):
        right = sum(a == k == t for a, t in pairs)
        heard, there = sum(a == k for a, _ in pairs), sum(t == k for _, t in pairs)
        if not there:
            assert found.f1[k].isnan() and found.precision[k].isnan() and found.recall[k].isnan()
            continue
        precision, recall = right / heard if heard else 0.0, right / there
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        scores.append((precision, recall, f1))
        of_class = (found.precision[k].item(), found.recall[k].item(), found.f1[k].item())
        assert of_class == pytest.approx(scores[-1], abs=1e-12)
    macro = tuple(mean([score[i] for score in scores]) for i in range(3))
    assert (found.macro_precision, found.macro_recall, found.macro_f1) == pytest.approx(macro, abs=1e-12)
    assert found.accuracy == pytest.approx(mean([float(a == t) for a, t in pairs]), abs=1e-12)
    assert found.n_left_out == n_classes - len(scores) and found.n_clips == n_clips


def test_rows_name_their_classes():
    found = single_label_scores(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 3)
    rows = per_class_rows(found, ("bell", "dog", "horn"))
    assert rows[0] == {"label": "bell", "n_positives": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert rows[2]["n_positives"] == 0 and math.isnan(rows[2]["f1"])
    with pytest.raises(ValueError, match="2 labels for 3 classes"):
        per_class_rows(found, ("bell", "dog"))


@pytest.mark.parametrize(
    ("answer", "target", "n_classes", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), None, "accuracy means nothing .* use multi_label_scores"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), None, "from 0 to 2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), 4, "n_classes is 4, but the answers have 3"),
        (torch.tensor([0, 3]), torch.tensor([0, 1]), 3, "answers must be classes from 0 to 2"),
        (torch.tensor([0, 1]), torch.tensor([0, 1]), None, "together with n_classes"),
        (torch.zeros(2, 3), torch.tensor([0]), None, r"indices \(2,\)"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), None, "at least one clip"),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1]), None, "NaN"),
    ],
)
def test_bad_single_label_input(answer, target, n_classes, message):
    with pytest.raises(ValueError, match=message):
        single_label_scores(answer, target, n_classes)


@pytest.mark.parametrize(
    ("answer", "target", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2), "must be .clips, classes. alike"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "must be .clips, classes. alike"),
        (torch.zeros(2, 3), torch.full((2, 3), 0.4), "0 or 1 everywhere: .* unmixed"),
        (torch.full((2, 3), math.nan), torch.zeros(2, 3), "NaN"),
    ],
)
def test_bad_multi_label_input(answer, target, message):
    with pytest.raises(ValueError, match=message):
        multi_label_scores(answer, target)


def test_without_torchmetrics_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    with pytest.raises(ImportError, match=r"scoring needs torchmetrics, .* pip install 'tome_audio\[recipes\]'"):
        single_label_scores(torch.zeros(2, 3), torch.tensor([0, 1]))
