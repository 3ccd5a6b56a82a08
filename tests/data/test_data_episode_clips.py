"""Episodes as the trainer takes them: the same by number, drawn anew, segments at random, views where asked."""

import pytest
import torch

from tome_audio.data.clips import DataError
from tome_audio.data.episode_clips import EpisodeClips, Views
from tome_audio.data.episodes import ClassMembers, EpisodeShape
from tome_audio.data.segmented_clips import EmbeddedSegments

LABELS = [c for c in "abcd" for _ in range(6)]
SHAPE = EpisodeShape(3, 2, 1)


class Numbered:
    """Clip i has 1 + i % 3 segments, every value of which is i + segment / 10: frames 7, mel bins 5."""

    def one(self, number, chosen):
        return torch.full((7, 5), number + chosen.randrange(1 + number % 3) / 10)


def episodes(**options):
    return EpisodeClips(Numbered(), ClassMembers(LABELS), SHAPE, 8, **options)


def test_an_item_holds_an_episode():
    item = episodes()[3]
    assert item["support"].shape == (3, 2, 1, 7, 5) and item["query"].shape == (3, 1, 1, 7, 5)
    for row, own in enumerate(item["classes"].tolist()):
        clips = torch.cat([item["support"][row, :, 0, 0, 0], item["query"][row, :, 0, 0, 0]]).int().tolist()
        assert len(set(clips)) == 3 and all(LABELS[clip] == "abcd"[own] for clip in clips)


def test_items_are_fixed_and_draws_are_not():
    found = episodes(seed=1)
    assert all(torch.equal(found[2][name], found[2][name]) for name in found[2])
    assert not torch.equal(found[2]["support"], found[3]["support"])
    assert not torch.equal(found[2]["support"], episodes(seed=2)[2]["support"])
    draws = [found.draw(0, torch.Generator().manual_seed(seed))["support"] for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_every_segment_of_a_clip_is_seen_some_time():
    found = episodes()
    values = {round(float(v), 1) for i in range(200) for v in found[i]["support"][:, :, 0, 0, 0].flatten()}
    assert {2.0, 2.1, 2.2} <= values and 0.1 not in values


@pytest.mark.parametrize(("support", "query"), [(True, False), (True, True), (False, False)])
def test_views_are_made_where_they_are_asked_for(support, query):
    def views(features, generator):
        return torch.stack([features, features * 0], 1)

    item = episodes(views=Views(of_features=views, support=support, query=query))[0]
    assert item["support"].shape[2] == 1 + support and item["query"].shape[2] == 1 + query
    assert torch.equal(item["support"][:, :, 0], episodes()[0]["support"][:, :, 0])


def test_two_kinds_of_views_and_classes_too_small_are_refused():
    with pytest.raises(ValueError, match="choose one"):
        Views(of_features=lambda f, g: f, of_waveforms=lambda w, g: w)
    with pytest.raises(DataError, match="needs 8 clips of every class"):
        EpisodeClips(Numbered(), ClassMembers(LABELS), EpisodeShape(2, 5, 3), 4)


def test_embedded_segments_are_given_back_clip_by_clip():
    values = torch.arange(12.0).view(6, 2)
    found = EmbeddedSegments(values, torch.tensor([0, 0, 1, 2, 2, 2]))
    assert len(found) == 3 and torch.equal(found.features(2), values[3:])
    many = EmbeddedSegments(torch.arange(16.0).view(8, 2), torch.arange(8))
    item = EpisodeClips(many, ClassMembers("xyxyxyxy"), EpisodeShape(2, 2, 1), 1)[0]
    assert item["support"].shape == (2, 2, 1, 2) and item["query"].shape == (2, 1, 1, 2)
    for clip in ([0, 2, 2, 2, 2, 2], [0, 0, 1, 2, 1, 2], [0, 1]):
        with pytest.raises(ValueError, match="every clip needs"):
            EmbeddedSegments(values, torch.tensor(clip))
