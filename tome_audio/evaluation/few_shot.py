"""Thousands of few-shot tasks on clips that are embedded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tome_audio.data.episodes import CHUNK, ClassMembers, EpisodeShape, drawn_episodes
from tome_audio.metrics.few_shot import MeanInterval, Ties, majority_vote, mean_and_interval

_MOST_VALUES = 2**24
"""Numbers of embedded segments that are held at a time while clips vote."""

Compare = Callable[[Tensor, Tensor], Tensor]
"""Clips to learn from (E, N, k, D) and queries (E, Q, D) to scores (E, Q, N): larger is nearer."""
FIRST_VIEW = slice(0, 1)


@dataclass(frozen=True)
class EmbeddedClips:
    """Embedded segments of labelled clips.

    Attributes:
        values: (S, V, D): V views of every segment, the first being the segment itself.
        clip: (S,): which clip a segment is of, in rising order, every clip from 0 on being there.
        labels: The class of every clip, of any kind; they need not be numbers from 0 on.

    Raises:
        ValueError: Shapes that do not fit together, or embeddings that are not finite.
    """

    values: Tensor
    clip: Tensor
    labels: tuple[object, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.clip.shape != self.values.shape[:1]:
            raise ValueError(
                f"embeddings must be (S, V, D) with one clip number each, got {tuple(self.values.shape)} and "
                f"{tuple(self.clip.shape)}"
            )
        counts = torch.bincount(self.clip, minlength=len(self.labels))
        if len(counts) != len(self.labels) or not bool((counts > 0).all()) or not bool((self.clip.diff() >= 0).all()):
            raise ValueError(
                f"{len(self.labels)} clips need a label and at least one segment each, in the order of their numbers"
            )
        if not bool(torch.isfinite(self.values).all()):
            raise ValueError("some embeddings are NaN or infinite: is the model trained, and its input normalised?")


@dataclass(frozen=True)
class TaskScores:
    """What came of many tasks.

    Attributes:
        accuracy: (E,): the part of its queries that is right, task by task.
        confusion: (C, C): how often class i (row) was taken for class j, over all tasks.
        names: The C classes.
    """

    accuracy: Tensor
    confusion: Tensor
    names: tuple[object, ...]

    @property
    def summary(self) -> MeanInterval:
        """Mean accuracy over tasks, with the half width of its 95 % interval."""
        return mean_and_interval(self.accuracy)


@torch.no_grad()
def evaluate_tasks(
    clips: EmbeddedClips,
    shape: EpisodeShape,
    compare: Compare,
    *,
    n_tasks: int,
    seed: int = 0,
    support_views: slice = FIRST_VIEW,
    ties: Ties = "first",
    on_tasks: Callable[[int], None] | None = None,
) -> TaskScores:
    """Draw tasks and answer them.

    Of a clip with several segments a random one is learnt from; asked, all of them vote. The tasks depend on the
    labels, the shape and the seed alone, so that every setting of r answers the same ones.

    Args:
        clips: Embedded.
        shape: Of the tasks.
        compare: Scores queries against clips to learn from.
        n_tasks: How many.
        seed: Of the tasks.
        support_views: Which views of a clip are learnt from: slice(None) takes all of them. Asked is the first.
        ties: Who wins where segments vote for several classes alike; see `majority_vote`.
        on_tasks: Called with the number of tasks done.

    Raises:
        DataError: A class has too few clips for the shape, or there are too few classes.
        ValueError: No tasks.
    """
    members = ClassMembers(clips.labels)
    n_classes = len(members.names)
    counts = torch.bincount(clips.clip)
    first = counts.cumsum(0) - counts
    accuracy, confusion = [], torch.zeros(n_classes * n_classes, dtype=torch.int64)
    for chunk, drawn in enumerate(drawn_episodes(members, shape, n_tasks, seed)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + chunk + 500_009)
        chosen = (torch.rand(drawn.support.shape, generator=generator) * counts[drawn.support]).long()
        support = clips.values[first[drawn.support] + chosen]  # (E, N, k, V, D)
        learnt = support[..., support_views, :].flatten(2, 3)
        asked = drawn.query.flatten(1)  # (E, Q)
        if int(counts.max()) == 1:
            answer = compare(learnt, clips.values[first[asked], 0]).argmax(-1)
        else:
            answer = _voted(clips, compare, learnt, asked, first, counts, ties)
        truth = torch.arange(shape.n_way).repeat_interleave(shape.n_query).expand_as(answer)
        accuracy.append((answer == truth).double().mean(1))
        pairs = drawn.classes.gather(1, truth) * n_classes + drawn.classes.gather(1, answer)
        confusion += torch.bincount(pairs.flatten(), minlength=len(confusion))
        if on_tasks is not None:
            on_tasks(min(n_tasks, (chunk + 1) * CHUNK))
    return TaskScores(torch.cat(accuracy), confusion.unflatten(0, (n_classes, n_classes)), members.names)


def _voted(
    clips: EmbeddedClips, compare: Compare, learnt: Tensor, asked: Tensor, first: Tensor, counts: Tensor, ties: Ties
) -> Tensor:
    # (E, Q): what most segments of each clip say. An episode has as many places as its clips have segments, and as the
    # longest episode of those that are worked on together.
    n_episodes, n_queries = asked.shape
    together = max(1, _MOST_VALUES // int(counts[asked].sum(1).max() * clips.values.shape[-1]))
    if together < n_episodes:
        parts = zip(learnt.split(together), asked.split(together), strict=True)
        return torch.cat([_voted(clips, compare, one, own, first, counts, ties) for one, own in parts])
    own = counts[asked].flatten()
    clip = torch.arange(len(own)).repeat_interleave(own)
    segment = first[asked].flatten()[clip] + torch.arange(len(clip)) - (own.cumsum(0) - own)[clip]
    totals = own.unflatten(0, (n_episodes, n_queries)).sum(1)
    episode = clip // n_queries
    place = torch.arange(len(clip)) - (totals.cumsum(0) - totals)[episode]
    padded = torch.zeros(n_episodes, int(totals.max()), dtype=torch.int64)
    padded[episode, place] = segment
    scores = compare(learnt, clips.values[padded, 0])[episode, place]
    return majority_vote(scores.argmax(-1), scores, clip, len(own), ties).view_as(asked)
