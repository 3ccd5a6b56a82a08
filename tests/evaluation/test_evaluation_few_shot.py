"""Many tasks on embedded clips: against a loop in float64, with votes over segments, and fast."""

import pytest
import torch

from tome_audio.data.clips import DataError
from tome_audio.data.episodes import ClassMembers, EpisodeShape, drawn_episodes
from tome_audio.evaluation.few_shot import EmbeddedClips, evaluate_tasks
from tome_audio.losses import prototypical_logits

SHAPE = EpisodeShape(3, 2, 2)


def compare(support, query):
    return prototypical_logits(query, support.mean(2), "squared")


def clips(n_classes=5, per_class=6, dim=4, spread=1.0, n_views=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = [f"class {c}" for c in range(n_classes) for _ in range(per_class)]
    centres = torch.randn(n_classes, dim, generator=generator).repeat_interleave(per_class, 0)
    noise = torch.randn(len(labels), n_views, dim, generator=generator)
    return EmbeddedClips(centres[:, None] + spread * noise, torch.arange(len(labels)), tuple(labels))


def naive(found, n_tasks, seed):
    """Accuracy task by task, one query at a time, in float64."""
    values, accuracies = found.values[:, 0].double(), []
    for drawn in drawn_episodes(ClassMembers(found.labels), SHAPE, n_tasks, seed):
        for support, query in zip(drawn.support, drawn.query, strict=True):
            prototypes = [sum(values[i] for i in own.tolist()) / len(own) for own in support]
            right = [
                min(range(len(prototypes)), key=lambda c: float(((values[i] - prototypes[c]) ** 2).sum())) == own
                for own, row in enumerate(query.tolist())
                for i in row
            ]
            accuracies.append(sum(right) / len(right))
    return torch.tensor(accuracies, dtype=torch.float64)


def test_tasks_are_answered_as_one_by_one():
    found = clips()
    scores = evaluate_tasks(found, SHAPE, compare, n_tasks=300, seed=4)
    torch.testing.assert_close(scores.accuracy, naive(found, 300, 4))
    assert 0.34 < scores.summary.mean < 0.99
    assert scores.confusion.sum() == 300 * 6
    assert scores.confusion.diagonal().sum() / scores.confusion.sum() == pytest.approx(scores.summary.mean)


@pytest.mark.parametrize("shape", [EpisodeShape(5, 1, 1), EpisodeShape(5, 5, 15)], ids=str)
def test_ten_thousand_tasks_on_embeddings_of_a_test_part(shape):
    """Ten classes of forty clips, as ESC-50 has them to test on, embedded in 64 numbers."""
    found, done = clips(n_classes=10, per_class=40, dim=64, spread=2.5), []
    scores = evaluate_tasks(found, shape, compare, n_tasks=10_000, on_tasks=done.append)
    assert scores.accuracy.shape == (10_000,) and scores.confusion.sum() == 10_000 * shape.n_way * shape.n_query
    assert done == list(range(250, 10_001, 250))
    few = evaluate_tasks(found, shape, compare, n_tasks=1000)
    assert torch.equal(few.accuracy, scores.accuracy[:1000])  # fewer tasks are the beginning of more
    assert abs(few.summary.mean - scores.summary.mean) < 2 * few.summary.half_width
    assert scores.summary.half_width < few.summary.half_width / 3 and 0.4 < scores.summary.mean < 0.999


def test_classes_far_apart_are_told_apart_and_noise_is_not():
    assert evaluate_tasks(clips(spread=1e-3), SHAPE, compare, n_tasks=50).summary.mean == 1.0
    chance = evaluate_tasks(clips(spread=1e4), SHAPE, compare, n_tasks=2000).summary
    assert abs(chance.mean - 1 / 3) < 0.06


def test_segments_vote_and_one_segment_each_changes_nothing():
    # Two segments of every clip lie at its class and one at the next: the majority is right, a single one may not be.
    labels = tuple(f"class {c}" for c in range(4) for _ in range(12))
    own = torch.eye(4).repeat_interleave(12, 0)
    values = torch.stack([own, own, own.roll(12, 0)], 1).flatten(0, 1)[:, None]
    shape = EpisodeShape(4, 10, 2)
    segments = EmbeddedClips(values, torch.arange(48).repeat_interleave(3), labels)
    alone = EmbeddedClips(values, torch.arange(144), tuple(label for label in labels for _ in range(3)))
    voted, not_voted = (evaluate_tasks(found, shape, compare, n_tasks=300).summary.mean for found in (segments, alone))
    assert voted > 0.9 and 0.6 < not_voted < 0.75


def test_a_clip_with_more_segments_does_not_change_the_votes_of_others():
    few = clips(per_class=6, spread=1.2)
    counts = torch.ones(30, dtype=torch.int64)
    counts[7] = 5
    many = EmbeddedClips(few.values.repeat_interleave(counts, 0), few.clip.repeat_interleave(counts), few.labels)
    one, other = (evaluate_tasks(found, SHAPE, compare, n_tasks=250, seed=1) for found in (few, many))
    assert torch.equal(one.accuracy, other.accuracy)


def test_views_are_learnt_from_where_asked():
    found = clips(n_views=4, spread=2.0)
    plain = evaluate_tasks(found, SHAPE, compare, n_tasks=1000)
    enriched = evaluate_tasks(found, SHAPE, compare, n_tasks=1000, support_views=slice(None))
    assert enriched.summary.mean > plain.summary.mean


def test_what_does_not_fit_is_refused():
    found = clips()
    with pytest.raises(DataError, match="needs 7 clips of every class"):
        evaluate_tasks(found, EpisodeShape(2, 5, 2), compare, n_tasks=1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        EmbeddedClips(found.values.clone().fill_(float("nan")), found.clip, found.labels)
    with pytest.raises(ValueError, match=r"must be \(S, V, D\)"):
        EmbeddedClips(found.values[:, 0], found.clip, found.labels)
    with pytest.raises(ValueError, match="need a label and at least one segment"):
        EmbeddedClips(found.values, found.clip.clamp(max=20), found.labels)
