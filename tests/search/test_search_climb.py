import random

import pytest

from tome_audio.merge import BlockCost, Schedule
from tome_audio.search.climb import FIT_PARTS, HELD_OUT, Bench, Goal, choose, climb
from tome_audio.search.divergence import Score
from tome_audio.search.ledger import Ledger
from tome_audio.search.moves import Choices
from tome_audio.search.space import Draft, Space, reach

SPACE = Space((BlockCost(4 * 64, 8 * 64, 64, 2 * 64),) * 6, 99, 1, 1)
GOAL = Goal(3.0, SPACE.macs_cut, SPACE, Choices(("adjacent", "bipartite")))


class Valley:
    """A judge without a model: merging is best late, so the search must leave where it starts."""

    def __init__(self):
        self.asked = []

    def score(self, schedule, part):
        self.asked.append((schedule, part))
        amounts = SPACE.amounts(schedule)
        root = 1.0 + 10 * sum(amounts.before) + sum(r * (5 - i) for i, r in enumerate(amounts.blocks)) + 0.01 * part
        return Score(root, root**2)


@pytest.fixture
def start():
    return reach(Draft.of(Schedule((), (49,)), SPACE), 3.0, SPACE, SPACE.macs_cut, random.Random(0))


def run(start, budget=300, seed=0):
    bench = Bench(Valley(), Ledger())
    return bench, climb(bench, GOAL, [start], budget, random.Random(seed))


def test_it_finds_better_ones_in_order(start):
    bench, best = run(start)
    scores = [bench.mean(schedule) for schedule in best]
    assert scores == sorted(scores) and scores[0] < 0.8 * bench.mean(start)
    assert len(set(best)) == len(best) and all(GOAL.is_met(schedule) for schedule in best)


def test_the_seed_decides(start):
    assert run(start)[1] == run(start)[1]
    assert run(start)[0].judge.asked != run(start, seed=1)[0].judge.asked


def test_the_budget_is_kept_and_nothing_is_scored_twice(start):
    bench, _ = run(start, budget=60)
    asked = bench.judge.asked
    assert 60 <= bench.spent <= 60 + len(FIT_PARTS) and len(asked) == len(set(asked)) == bench.spent
    assert HELD_OUT not in {part for _, part in asked}


def test_a_bad_one_drops_out_after_the_first_part(start):
    bench, best = run(start)
    worst = bench.mean(best[-1], FIT_PARTS[:1])
    dropped = {s for s, part in bench.judge.asked if (s, 1) not in bench.scores}
    assert dropped and all(bench.scores[s, 0].root > worst for s in dropped)


def test_clips_held_out_decide_between_the_best_few(start):
    bench, best = run(start)
    favourite = best[-1]
    real = bench.judge.score

    def score(schedule, part):
        return Score(-1e4, 0) if schedule == favourite and part == HELD_OUT else real(schedule, part)

    bench.judge.score = score
    assert choose(bench, best) == favourite
