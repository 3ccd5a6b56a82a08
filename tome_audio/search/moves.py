"""Small changes to a schedule that keep its gain: the steps of a local search."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tome_audio.merge import Schedule
from tome_audio.search.space import Draft, Gain, Space, reach

MOST_ROUNDS = 6
_RENAMING = 0.2

Move = Callable[[Draft, Space, random.Random], int | None]
"""Changes a draft in place and returns the number that should keep its new value, None where any may change."""


@dataclass(frozen=True)
class Choices:
    """Names to choose from: the matching before the first block, and what single blocks may have of their own."""

    before_matchings: tuple[str, ...] = ("adjacent",)
    block_matchings: tuple[str, ...] = ()
    block_metrics: tuple[str, ...] = ()


def propose(
    schedule: Schedule, target: float, space: Space, gain: Gain, rng: random.Random, choices: Choices
) -> Schedule | None:
    """Return a neighbour of the schedule at the target; None where the step led nowhere.

    Args:
        schedule: where to start from.
        target: the least gain.
        space: of the model.
        gain: what counts.
        rng: the source of chance.
        choices: names to choose from.
    """
    draft = Draft.of(schedule, space)
    if (choices.block_matchings or choices.block_metrics) and rng.random() < _RENAMING:
        return _rename(draft, choices, space, rng)
    move = rng.choices(_MOVES, _WEIGHTS)[0]
    kept = move(draft, space, rng)
    if draft.n_rounds and len(choices.before_matchings) > 1 and rng.random() < 0.08:
        others = [name for name in choices.before_matchings if name != draft.matching]
        draft.matching = rng.choice(others)
    return reach(draft, target, space, gain, rng, kept)


def _rename(draft: Draft, choices: Choices, space: Space, rng: random.Random) -> Schedule | None:
    """Give one block that merges another matching or metric, or take its own away; the numbers stay."""
    merging = [i for i, r in enumerate(draft.values[draft.n_rounds :]) if r]
    kinds = [
        (own, names)
        for own, names in ((draft.matchings, choices.block_matchings), (draft.metrics, choices.block_metrics))
        if names
    ]
    if not merging:
        return None
    (own, names), i = rng.choice(kinds), rng.choice(merging)
    own[i] = rng.choice([name for name in ("", *names) if name != own.get(i, "")])
    return space.canonical(draft.schedule())


def _resize(draft: Draft, space: Space, rng: random.Random) -> int | None:
    """Change one number by a step of 1, 2, 4, ... or to a multiple of itself."""
    if not draft.values:
        return None
    i = rng.randrange(len(draft.values))
    if draft.values[i] and rng.random() < 0.4:
        draft.values[i] = round(draft.values[i] * rng.choice((0.0, 0.5, 0.75, 1.33, 2.0)))
    else:
        draft.values[i] = max(0, draft.values[i] + rng.choice((-1, 1)) * _step(space, rng))
    return i


def _shift(draft: Draft, space: Space, rng: random.Random) -> int | None:
    """Let some tokens of one place merge in another."""
    giving = [i for i, value in enumerate(draft.values) if value]
    if not giving or len(draft.values) < 2:
        return _resize(draft, space, rng)
    i = rng.choice(giving)
    near = [j for j in (i - 1, i + 1) if 0 <= j < len(draft.values)]
    j = rng.choice(near) if rng.random() < 0.6 else rng.choice([j for j in range(len(draft.values)) if j != i])
    amount = min(draft.values[i], draft.values[i] if rng.random() < 0.15 else _step(space, rng))
    draft.values[i] -= amount
    draft.values[j] += amount
    return j


def _swap(draft: Draft, space: Space, rng: random.Random) -> int | None:
    """Let two neighbouring places change their numbers."""
    if len(draft.values) < 2:
        return _resize(draft, space, rng)
    i = rng.randrange(len(draft.values) - 1)
    draft.values[i], draft.values[i + 1] = draft.values[i + 1], draft.values[i]
    return None


def _add_round(draft: Draft, space: Space, rng: random.Random) -> int | None:
    """Merge a part of the tokens in one more round before the first block."""
    if draft.n_rounds >= MOST_ROUNDS:
        return _drop_round(draft, space, rng)
    left = space.n_tokens - space.n_prefix - sum(draft.values[: draft.n_rounds])
    draft.values.insert(draft.n_rounds, round(left * rng.choice((0.5, 0.35, 0.25, 0.12))))
    draft.n_rounds += 1
    return draft.n_rounds - 1


def _drop_round(draft: Draft, space: Space, rng: random.Random) -> int | None:
    """Leave out a round before the first block, or let the first block merge its tokens."""
    if not draft.n_rounds:
        return _add_round(draft, space, rng)
    amount = draft.values.pop(rng.randrange(draft.n_rounds))
    draft.n_rounds -= 1
    if space.n_merging and rng.random() < 0.5:
        draft.values[draft.n_rounds] += amount
    return None


_MOVES: tuple[Move, ...] = (_resize, _shift, _swap, _add_round, _drop_round)
_WEIGHTS = (0.45, 0.35, 0.08, 0.07, 0.05)


def _step(space: Space, rng: random.Random) -> int:
    """Return 1, 2, 4, ... up to a quarter of the tokens, small steps more often."""
    largest = max(1, (space.n_tokens - space.n_prefix) // 4)
    return min(int(2.0 ** min(rng.expovariate(0.5), 20.0)), largest)
