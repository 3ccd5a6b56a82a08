import random

import pytest
import torch
from fakes import CASES

from tome_audio.merge import Amounts, BlockCost, Schedule
from tome_audio.patch import apply_patch, describe
from tome_audio.search.moves import MOST_ROUNDS, Choices, propose
from tome_audio.search.space import Draft, Space, reach, space_of

COSTS = (BlockCost(4 * 64, 8 * 64, 64, 2 * 64),) * 6
SPACES = [Space(COSTS, 99, 1, 1), Space(COSTS, 40, 2, None), Space(COSTS[:1], 9, 1, 1)]
MATCHINGS = ("adjacent", "bipartite")


def some_schedule(space, rng):
    return Schedule(
        [rng.randrange(space.n_tokens // 2) * rng.choice((0, 1)) for _ in space.costs],
        [rng.randrange(space.n_tokens) for _ in range(rng.randrange(4))],
        rng.choice(MATCHINGS),
    )


@pytest.mark.parametrize("space", SPACES)
def test_there_is_one_way_to_write_what_merges(space):
    rng = random.Random(0)
    for _ in range(200):
        schedule = some_schedule(space, rng)
        short = space.canonical(schedule)
        assert space.canonical(short) == short
        done = space.amounts(schedule)
        assert space.amounts(short) == Amounts(tuple(r for r in done.before if r), done.blocks)
        assert 0 not in short.before and (not short.blocks or short.blocks[-1] > 0)
        assert space.macs_cut(done) <= space.macs_cut(space.amounts(space.harshest())) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_the_cut_is_what_describe_counts(name):
    case, rng = CASES[name], random.Random(1)
    model = apply_patch(case.build().eval(), 2)
    space = space_of(model, torch.randn(2, *case.input_shape))
    assert (space.n_tokens, space.n_prefix) == (case.n_tokens, case.n_prefix) and model.r == 2
    for _ in range(10):
        model.r = schedule = space.canonical(some_schedule(space, rng))
        amounts = space.amounts(schedule)
        if amounts.merges:
            report = describe(model, case.n_tokens)
            assert report.macs_cut == space.macs_cut(amounts) and report.before == amounts.before
            assert report.merged == amounts.blocks and not report.is_clamped


@pytest.mark.parametrize("space", SPACES)
def test_a_draft_reaches_the_target_and_not_more(space):
    rng = random.Random(2)
    most = space.macs_cut(space.amounts(space.harshest()))
    for _ in range(100):
        target = rng.uniform(1.3, 0.7 * most)
        schedule = reach(
            Draft.of(space.canonical(some_schedule(space, rng)), space), target, space, space.macs_cut, rng
        )
        if schedule is None:
            continue
        assert space.macs_cut(space.amounts(schedule)) >= target
        draft = Draft.of(schedule, space)
        for i, value in enumerate(draft.values):
            if value and i >= draft.n_rounds:
                less = draft.with_values([*draft.values[:i], value - 1, *draft.values[i + 1 :]])
                assert space.macs_cut(space.amounts(less.schedule())) < target


def test_a_draft_that_cannot_reach_the_target_is_none():
    space = SPACES[0]
    assert reach(Draft([0] * 5, 0, "adjacent"), 1e6, space, space.macs_cut, random.Random(0)) is None


@pytest.mark.parametrize("space", SPACES)
def test_blocks_take_names_of_their_own(space):
    rng, target = random.Random(5), 2.0
    choices = Choices(MATCHINGS, ("adjacent",), ("hidden", "value"))
    start = Schedule((3,) * space.n_merging, (space.n_tokens // 3,))
    schedule = reach(Draft.of(start, space), target, space, space.macs_cut, rng)
    seen = set()
    for _ in range(400):
        child = propose(schedule, target, space, space.macs_cut, rng, choices)
        if child is not None:
            assert space.canonical(child) == child and space.macs_cut(space.amounts(child)) >= target
            for names in (child.matchings, child.metrics):
                assert all(child.blocks[i] for i, name in enumerate(names) if name) and (not names or names[-1])
            seen.add(child)
            schedule = child
    if space.n_merging > 1:
        assert {name for child in seen for name in child.matchings} == {"", "adjacent"}
        assert {name for child in seen for name in child.metrics} == {"", "hidden", "value"}


@pytest.mark.parametrize("space", SPACES)
def test_moves_stay_at_the_target_and_go_everywhere(space):
    rng, target = random.Random(3), 2.0
    schedule = reach(Draft.of(Schedule((), (space.n_tokens // 2,)), space), target, space, space.macs_cut, rng)
    seen = set()
    for _ in range(400):
        child = propose(schedule, target, space, space.macs_cut, rng, Choices(MATCHINGS))
        if child is not None:
            assert space.canonical(child) == child and space.macs_cut(space.amounts(child)) >= target
            assert len(child.before) <= MOST_ROUNDS
            seen.add(child)
            schedule = child
    if space.n_merging > 1:
        assert len(seen) > 100
        assert {len(child.before) for child in seen} >= {0, 1, 2}
        assert {child.before_matching for child in seen} == set(MATCHINGS)
        assert all(any(len(child.blocks) > i and child.blocks[i] for child in seen) for i in range(space.n_merging))
