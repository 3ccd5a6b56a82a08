"""Every rule that is compared, by what it varies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from merging.lab import IN_BLOCKS, Rule
from merging.scores import (
    cosine,
    dot,
    euclid,
    felt,
    leaning,
    near,
    protecting,
    same_band,
    small_first,
    unimportant_first,
    ward,
    within,
)
from merging.steps import bipartite, energetic, evenly, greedy, pairs, shared

DEFAULT = Rule("default", "default")


def in_blocks(multi_head: bool, bands: int) -> Iterator[Rule]:
    """Yield rules that differ in what happens in the blocks; `bands`: rows of the grid of patches."""
    yield from _metrics(multi_head)
    yield from _sizes_and_importance()
    yield from _choices()
    yield from _places(bands)
    yield from _together()
    for partners, temperature in ((2, 0.05), (2, 0.1), (4, 0.1), (8, 0.2)):
        step = shared(cosine(), partners, temperature)
        yield Rule(f"shared over {partners}, T {temperature:g}", "soft", step)
    yield Rule("shared over 4 that stay, T 0.1", "soft", shared(cosine(), 4, 0.1, among_all=True))
    for combine in ("plain", "norm", "keep", "felt"):
        yield Rule(f"mean: {combine}", "combine", combine=combine)
    for power in (0.0, 0.5, 0.8, 1.2):
        yield Rule(f"{power:g} log(size) in attention", "combine", size_power=power)


def before_blocks(bands: int) -> Iterator[Rule]:
    """Yield rules that differ in the rounds before the first block."""
    rule = partial(Rule, group="before block 0")
    hidden = cosine("hidden")
    yield rule("before: evenly (average pooling)", before=evenly)
    yield rule("before: any pair", before=pairs(hidden))
    for tokens in (3, 5, 9):
        yield rule(f"before: within {tokens} tokens", before=pairs(within(hidden, tokens)))
    for metric in ("hidden_normed", "key", "value", "key+value"):
        yield rule(f"before: neighbours by {metric}", before=pairs(within(cosine(metric), 1)))
    yield rule("before: neighbours by distance", before=pairs(within(euclid("hidden"), 1)))
    yield rule("before: neighbours by Ward", before=pairs(within(ward("hidden"), 1)))
    for power in (0.25, 0.5, 1.0):
        step = pairs(within(ward("hidden", unit=True, power=power), 1))
        yield rule(f"before: neighbours by Ward of cosines^{power:g}", before=step)
    yield rule("before: neighbours by Ward of values", before=pairs(within(ward("value"), 1)))
    yield rule("before: neighbours by felt values", before=pairs(within(felt("value"), 1)))
    for power in (0.1, 0.3, 1.0):
        step = pairs(unimportant_first(within(hidden, 1), power))
        yield rule(f"before: neighbours / attention^{power:g}", before=step)
    for rounds in (2, 4):
        yield rule(f"before: neighbours, each round in {rounds}", before=pairs(within(hidden, 1), rounds=rounds))
    yield rule("before: neighbours, swapped", before=pairs(within(hidden, 1), bipartite("swapped")))
    yield rule("before: best neighbours first", before=pairs(within(hidden, 1), greedy()))
    step = pairs(within(ward("hidden"), 1), greedy())
    yield rule("before: best neighbours first by Ward", before=step)
    yield rule("before: best neighbours first, in 4", before=pairs(within(hidden, 1), greedy(), rounds=4))
    step = pairs(within(ward("hidden"), 1), greedy(), rounds=4)
    yield rule("before: best neighbours first by Ward, in 4", before=step)
    if bands > 1:
        yield rule("before: neighbours, not across bands", before=pairs(same_band(hidden)))
        for up, along in ((0, 1), (1, 0), (1, 1), (1, 2), (0, 3), (2, 2)):
            step = pairs(near(hidden, up, along))
            yield rule(f"before: within {up} bands, {along} patches", before=step)
        yield rule("before: any pair, best first", before=pairs(hidden, greedy()))


def _metrics(multi_head: bool) -> Iterator[Rule]:
    names = ["value", "hidden", "hidden_normed", "query", "key+hidden", "key+value", "key+query", "key+hidden+value"]
    if multi_head:
        names += ["key_heads", "value_heads", "key_heads+value_heads"]
    for name in names:
        yield Rule(f"cosine of {name}", "metric", pairs(cosine(name)))
    for name in ("key", "hidden", "value"):
        yield Rule(f"distance of {name}", "metric", pairs(euclid(name)))
    yield Rule("dot product of key", "metric", pairs(dot("key")))


def _sizes_and_importance() -> Iterator[Rule]:
    for power in (0.03, 0.1, 0.3, 1.0):
        yield Rule(f"cosine / sizes^{power:g}", "size", pairs(small_first(cosine(), power)))
    for power in (0.25, 0.5, 1.0):
        yield Rule(f"Ward of cosines^{power:g}", "size", pairs(ward("key", unit=True, power=power)))
    for name in ("key", "value", "hidden"):
        yield Rule(f"Ward of {name}", "size", pairs(ward(name)))
    for power in (0.25, 0.5, 0.75):
        yield Rule(f"Ward of hidden^{power:g}", "size", pairs(ward("hidden", power=power)))
    for power in (0.25, 0.5, 0.75, 1.0):
        yield Rule(f"Ward of key+hidden^{power:g}", "size", pairs(ward("key+hidden", power=power)))
    for power in (0.5, 1.0):
        yield Rule(f"Ward of hidden cosines^{power:g}", "size", pairs(ward("hidden", unit=True, power=power)))
    for power in (0.03, 0.1, 0.3, 1.0):
        yield Rule(f"cosine / attention^{power:g}", "importance", pairs(unimportant_first(cosine(), power)))
    for power in (0.1, 0.3):
        step = pairs(unimportant_first(cosine(), power, leaving_only=True))
        yield Rule(f"cosine / own attention^{power:g}", "importance", step)
    for share in (0.1, 0.25):
        yield Rule(f"{share:.0%} most attended stay", "importance", pairs(protecting(cosine(), share)))
    for name in ("value", "hidden", "key"):
        yield Rule(f"felt distance of {name}", "importance", pairs(felt(name)))
    yield Rule("felt distance of value, half", "importance", pairs(felt("value", power=0.5)))


def _choices() -> Iterator[Rule]:
    for margin in (0.0, 0.3, 0.5, 0.7, 0.9):
        yield Rule(f"energy, margin {margin:g}", "energy", pairs(cosine(), energetic(margin)))
    for margin in (0.5, 0.9):
        yield Rule(f"energy of hidden, margin {margin:g}", "energy", pairs(cosine("hidden"), energetic(margin)))
    for split in ("swapped", "random", "halves"):
        yield Rule(f"split: {split}", "pairs", pairs(cosine(), bipartite(split)))
    for rounds in (2, 3, 4):
        yield Rule(f"r in {rounds} rounds", "pairs", pairs(cosine(), rounds=rounds))
    yield Rule("best pairs first", "pairs", pairs(cosine(), greedy()))
    yield Rule("best pairs first, hidden", "pairs", pairs(cosine("hidden"), greedy()))
    yield Rule("best pairs first, Ward of hidden", "pairs", pairs(ward("hidden"), greedy()))
    yield Rule("best pairs first, Ward of cosines", "pairs", pairs(ward("key", unit=True), greedy()))


def _together() -> Iterator[Rule]:
    """Yield rules that put together what helped alone on the clips to choose on."""
    rule = partial(Rule, group="together")
    half = ward("hidden", power=0.5)
    yield rule("hidden, within 9 tokens", blocks=pairs(within(cosine("hidden"), 9)))
    yield rule("hidden, - 0.003 distance in time", blocks=pairs(leaning(cosine("hidden"), 0.003)))
    yield rule("hidden, in 4 rounds", blocks=pairs(cosine("hidden"), rounds=4))
    yield rule("Ward of hidden, half, in 4 rounds", blocks=pairs(half, rounds=4))
    cosines = ward("hidden", unit=True, power=0.5)
    yield rule("Ward of hidden cosines^0.5, in 4 rounds", blocks=pairs(cosines, rounds=4))
    yield rule("Ward of hidden cosines^0.5, in 2 rounds", blocks=pairs(cosines, rounds=2))
    yield rule("Ward of hidden, half, within 9 tokens", blocks=pairs(within(half, 9)))
    yield rule("Ward of hidden, half, best pairs first", blocks=pairs(half, greedy()))
    yield rule("Ward of hidden, half, swapped", blocks=pairs(half, bipartite("swapped")))
    yield rule("Ward of key+hidden, half, best pairs first", blocks=pairs(ward("key+hidden", power=0.5), greedy()))
    yield rule("Ward of key+hidden, half, in 4 rounds", blocks=pairs(ward("key+hidden", power=0.5), rounds=4))
    before = pairs(within(ward("hidden", unit=True, power=0.5), 1))
    yield rule("Ward of hidden, half, here and before", blocks=pairs(half), before=before)
    yield rule(
        "hidden; before within 5 tokens", blocks=pairs(cosine("hidden")), before=pairs(within(cosine("hidden"), 5))
    )


def _places(bands: int) -> Iterator[Rule]:
    for tokens in (1, 3, 5, 9, 15):
        yield Rule(f"within {tokens} tokens", "place", pairs(within(cosine(), tokens)))
    for slope in (0.003, 0.01, 0.03, 0.1):
        yield Rule(f"cosine - {slope:g} distance in time", "place", pairs(leaning(cosine(), slope)))
    if bands > 1:
        yield Rule("neighbours, not across bands", "place", pairs(same_band(cosine())))
        for up, along in ((0, 1), (0, 2), (0, 99), (1, 1), (1, 2), (1, 99), (2, 2), (99, 2)):
            yield Rule(f"within {up} bands, {along} patches", "place", pairs(near(cosine(), up, along)))


__all__ = ["DEFAULT", "IN_BLOCKS", "before_blocks", "in_blocks"]
