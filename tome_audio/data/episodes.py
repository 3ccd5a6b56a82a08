"""Episodes of few-shot learning: N classes, k clips each to learn from and q clips each to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tome_audio.data.clips import DataError

CHUNK = 250
"""Episodes that are drawn, and best worked on, together."""


@dataclass(frozen=True)
class EpisodeShape:
    """N-way k-shot with q queries.

    Attributes:
        n_way: Classes of an episode, N.
        k_shot: Clips of each class to learn from, k.
        n_query: Other clips of each class to be asked, q.

    Raises:
        ValueError: A number out of range.
    """

    n_way: int = 5
    k_shot: int = 1
    n_query: int = 1

    def __post_init__(self) -> None:
        for name, least in (("n_way", 2), ("k_shot", 1), ("n_query", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} of an episode must be at least {least}, got {getattr(self, name)}")

    def __str__(self) -> str:
        return f"{self.n_way}-way {self.k_shot}-shot {self.n_query}-query"


class Episodes(NamedTuple):
    """Several episodes: classes (E, N), clips to learn from (E, N, k) and to be asked (E, N, q), all int64."""

    classes: Tensor
    support: Tensor
    query: Tensor


class ClassMembers:
    """The clips of every class, ready to be drawn from.

    Args:
        labels: Of every clip: names, numbers, anything that can be told apart; they need not be 0 to n - 1.

    Attributes:
        names: Classes in the order of their first clip.
        members: (C, M): clip numbers of each class, M being the largest; -1 where a class has fewer.
        counts: (C,).
    """

    def __init__(self, labels: Sequence[object]) -> None:
        by_class: dict[object, list[int]] = {}
        for number, label in enumerate(labels):
            by_class.setdefault(label, []).append(number)
        self.names: tuple[object, ...] = tuple(by_class)
        most = max((len(own) for own in by_class.values()), default=0)
        self.members = torch.full((len(by_class), most), -1, dtype=torch.int64)
        for row, own in zip(self.members, by_class.values(), strict=True):
            row[: len(own)] = torch.tensor(own)
        self.counts = (self.members >= 0).sum(1)

    def check(self, shape: EpisodeShape, what: str = "data") -> None:
        """Refuse classes that cannot give an episode of this shape.

        Args:
            shape: Of the episodes.
            what: Names the part of the data in the error.

        Raises:
            DataError: There are fewer than N classes, or a class has fewer than k + q clips.
        """
        if len(self.names) < shape.n_way:
            raise DataError(
                f"{shape} needs {shape.n_way} classes, but the {what} has {len(self.names)}: lower n_way or add classes"
            )
        needed = shape.k_shot + shape.n_query
        small = {self.names[i]: int(n) for i, n in enumerate(self.counts) if n < needed}
        if small:
            named = ", ".join(f"{name} ({n})" for name, n in list(small.items())[:5])
            raise DataError(
                f"{shape} needs {needed} clips of every class, but {len(small)} of {len(self.names)} classes of the "
                f"{what} have fewer: {named}. Lower k_shot or n_query, or leave these classes out"
            )

    def draw(self, shape: EpisodeShape, n_episodes: int, generator: torch.Generator) -> Episodes:
        """Draw episodes: classes, and the clips of each, uniformly and without replacement.

        Args:
            shape: Of the episodes.
            n_episodes: How many, E.
            generator: On the CPU.

        Raises:
            DataError: As `check`.
        """
        self.check(shape)
        order = torch.rand(n_episodes, len(self.names), generator=generator)
        classes = order.topk(shape.n_way, dim=1).indices
        members = self.members[classes]
        keys = torch.rand(members.shape, generator=generator).masked_fill_(members < 0, -1.0)
        places = keys.topk(shape.k_shot + shape.n_query, dim=2).indices
        clips = members.gather(2, places)
        return Episodes(classes, clips[..., : shape.k_shot], clips[..., shape.k_shot :])


def drawn_episodes(members: ClassMembers, shape: EpisodeShape, n_episodes: int, seed: int) -> Iterator[Episodes]:
    """Yield n_episodes in chunks of 250; chunk i depends on (seed, i) alone, so fewer are the beginning of more.

    Raises:
        DataError: As `ClassMembers.check`.
        ValueError: No episodes are asked for.
    """
    if n_episodes < 1:
        raise ValueError(f"the number of episodes must be at least 1, got {n_episodes}")
    for chunk, first in enumerate(range(0, n_episodes, CHUNK)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + chunk)
        drawn = members.draw(shape, CHUNK, generator)
        kept = min(CHUNK, n_episodes - first)
        yield Episodes(*(part[:kept] for part in drawn))
