import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_votes import naive_score

from tome_audio.retrieval.votes import VoteOptions, gather_near, keep_best, matching_spans, vote


def tracks_of(counts, hop=1.0):
    track = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    starts = torch.cat([hop * torch.arange(count, dtype=torch.float64) for count in counts])
    return track, starts


@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    n_queries=st.integers(1, 6),
    n_windows=st.integers(1, 4),
    reach=st.sampled_from([0.0, 1.0, 2.5, 100.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_definition(counts, n_queries, n_windows, reach, seed):
    track, starts = tracks_of(counts)
    generator = torch.Generator().manual_seed(seed)
    similarities = torch.rand(n_queries, 3, len(track), generator=generator, dtype=torch.float64) * 2 - 1
    best = keep_best(None, gather_near(similarities, track, starts, reach), n_windows)
    found = vote(best, track, len(counts))
    for number in range(len(counts)):
        rows = (track == number).nonzero().flatten()
        score, variant, _ = naive_score(similarities[:, :, rows].numpy(), starts[rows].numpy(), n_windows, reach)
        assert found.scores[number].item() == pytest.approx(score, abs=1e-12)
        assert found.variants[number] == variant and track[found.places[number]] == number
        # Several places may have the same score, since they see the same windows: it is one of them.
        place = int(found.places[number] - rows[0])
        near = (starts[rows] - starts[rows[place]]).abs() <= reach + 1e-6
        again = similarities[:, found.variants[number], rows[near]].amax(1).topk(min(n_windows, n_queries)).values
        assert again.mean().item() == pytest.approx(score, abs=1e-12)


@given(parts=st.lists(st.integers(1, 4), min_size=1, max_size=5), n=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_song_in_parts_keeps_what_the_whole_song_does(parts, n, seed):
    whole = torch.rand(sum(parts), 2, 5, generator=torch.Generator().manual_seed(seed))
    best = None
    for part in whole.split(parts):
        best = keep_best(best, part, n)
    wanted = whole.sort(0, descending=True).values[:n]
    assert torch.equal(best.sort(0, descending=True).values, wanted)


def test_one_loud_window_is_less_than_three_that_agree():
    track, starts = tracks_of([12, 12])
    similarities = torch.full((6, 2, 24), 0.1, dtype=torch.float64)
    similarities[0, 0, 3] = 0.9  # track 0: once, and twice elsewhere and otherwise
    similarities[1, 1, 4] = 0.6
    similarities[2, 0, 11] = 0.6
    similarities[1:4, 1, 12 + 6] = 0.6  # track 1: a loop, three windows at one place in one variant
    found = vote(keep_best(None, gather_near(similarities, track, starts, 2.0), 3), track, 2)
    assert found.scores.tolist() == pytest.approx([1.1 / 3, 0.6])
    assert found.variants.tolist() == [0, 1] and abs(found.places[1] - 18) <= 2


def test_windows_of_different_places_agree_only_within_reach():
    track, starts = tracks_of([20])
    similarities = torch.zeros(3, 1, 20, dtype=torch.float64)
    for q, row in enumerate((2, 4, 12)):
        similarities[q, 0, row] = 0.9
    score = {
        reach: vote(keep_best(None, gather_near(similarities, track, starts, reach), 3), track, 1).scores.item()
        for reach in (0.0, 2.0, 50.0)
    }
    assert score == pytest.approx({0.0: 0.3, 2.0: 0.6, 50.0: 0.9})


def test_tracks_do_not_see_each_other():
    track, starts = tracks_of([2, 2])
    starts[2:] = starts[:2] + 0.5
    similarities = torch.tensor([[[0.9, 0.0, 0.1, 0.2]]], dtype=torch.float64)
    assert gather_near(similarities, track, starts, 9.0).flatten().tolist() == [0.9, 0.9, 0.2, 0.2]


def spans(similarities, place=5, hop=2.5, window=5.0):
    starts = hop * torch.arange(similarities.shape[1], dtype=torch.float64)
    song_starts = hop * torch.arange(similarities.shape[0], dtype=torch.float64)
    return matching_spans(similarities, song_starts, starts, place, window, VoteOptions())


def test_a_stretch_is_the_windows_that_match_one_after_the_other():
    similarities = torch.full((20, 12), 0.1, dtype=torch.float64)
    similarities[4:8, 5] = torch.tensor([0.7, 0.9, 0.8, 0.7], dtype=torch.float64)
    similarities[15, 6] = 0.8
    similarities[10, 0] = 0.9  # as good, but elsewhere in the original
    first, second = spans(similarities)
    assert (first.first, first.last, first.rows) == (4, 7, (5,))
    assert (second.first, second.last, second.rows) == (15, 15, (6,))


def test_windows_that_touch_are_one_stretch_and_windows_apart_are_two():
    similarities = torch.full((20, 12), 0.1, dtype=torch.float64)
    similarities[[2, 4, 7], 5] = 0.9
    assert [(span.first, span.last) for span in spans(similarities)] == [(2, 4), (7, 7)]


def test_a_loop_and_a_long_sample():
    similarities = torch.full((8, 12), 0.1, dtype=torch.float64)
    similarities[2:5, 5] = 0.9
    assert spans(similarities) == [(2, 4, (5,))]
    similarities = torch.full((8, 12), 0.1, dtype=torch.float64)
    similarities[[2, 3, 4], [4, 5, 6]] = 0.9
    assert spans(similarities) == [(2, 4, (4, 5, 6))]


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (9, 9)])
@pytest.mark.parametrize("value", [-0.5, 0.0, 0.123456])
def test_there_is_always_a_stretch(shape, value):
    similarities = torch.full(shape, value)
    found = spans(similarities, place=shape[1] - 1)
    assert (found[0].first, found[0].last) == (0, shape[0] - 1)


def test_options_that_mean_nothing():
    for options in ({"n_windows": 0}, {"reach": -1.0}, {"reach": np.nan}):
        with pytest.raises(ValueError, match="n_windows must be at least 1 and reach 0 s or more"):
            VoteOptions(**options)
