"""Episodes: disjoint clips of distinct classes, drawn alike from one seed; classes that cannot give one are named."""

import pytest
import torch

from tome_audio.data.clips import DataError
from tome_audio.data.episodes import CHUNK, ClassMembers, EpisodeShape, drawn_episodes

LABELS = ["owl"] * 7 + [3] * 5 + [("a", "pair")] * 6 + [-1] * 9


def test_labels_of_any_kind_make_classes():
    members = ClassMembers(LABELS)
    assert members.names == ("owl", 3, ("a", "pair"), -1)
    assert members.counts.tolist() == [7, 5, 6, 9]
    for row, name in zip(members.members, members.names, strict=True):
        assert all(LABELS[i] == name for i in row.tolist() if i >= 0)


def test_an_episode_has_distinct_classes_and_no_clip_twice():
    members, shape = ClassMembers(LABELS), EpisodeShape(3, 2, 3)
    drawn = members.draw(shape, 200, torch.Generator().manual_seed(0))
    assert drawn.classes.shape == (200, 3) and drawn.support.shape == (200, 3, 2) and drawn.query.shape == (200, 3, 3)
    for classes, support, query in zip(*drawn, strict=True):
        assert len(set(classes.tolist())) == 3
        clips = torch.cat([support, query], 1)
        assert len(set(clips.flatten().tolist())) == 15
        for number, own in zip(classes.tolist(), clips.tolist(), strict=True):
            assert all(LABELS[i] == members.names[number] for i in own)


def test_classes_and_clips_are_drawn_alike_often():
    members, shape = ClassMembers(LABELS), EpisodeShape(2, 1, 1)
    drawn = members.draw(shape, 20000, torch.Generator().manual_seed(1))
    classes = torch.bincount(drawn.classes.flatten(), minlength=4) / 20000
    torch.testing.assert_close(classes, torch.full((4,), 0.5), atol=0.02, rtol=0)
    clips = torch.bincount(drawn.support.flatten(), minlength=len(LABELS)) / 20000
    wanted = torch.tensor([0.5 / LABELS.count(label) for label in LABELS])
    torch.testing.assert_close(clips, wanted, atol=0.01, rtol=0)


def test_fewer_episodes_are_the_beginning_of_more():
    members, shape = ClassMembers(LABELS), EpisodeShape(3, 2, 2)

    def whole(n, seed=0):
        parts = list(drawn_episodes(members, shape, n, seed))
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    many, few = whole(CHUNK + 50), whole(CHUNK + 3)
    assert all(torch.equal(a[: CHUNK + 3], b) for a, b in zip(many, few, strict=True))
    assert not torch.equal(many[1], whole(CHUNK + 50, seed=1)[1])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (EpisodeShape(5, 1, 1), "needs 5 classes, but the test part has 4"),
        (
            EpisodeShape(2, 3, 3),
            r"needs 6 clips of every class, but 1 of 4 classes of the test part have .*: 3 \(5\)",
        ),
    ],
)
def test_what_cannot_give_an_episode_is_named(shape, said):
    with pytest.raises(DataError, match=said):
        ClassMembers(LABELS).check(shape, "test part")


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_an_episode_without_contents_is_refused(sizes):
    with pytest.raises(ValueError, match="must be at least"):
        EpisodeShape(*sizes)


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(drawn_episodes(ClassMembers(LABELS), EpisodeShape(2, 1, 1), 0, 0))
