"""Read r from the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tome_audio.merge import AUTO, SHAPES, ComputeTarget, Rate, Schedule, check_rate

_PART = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[^,\[\]()]+")
_TARGET = re.compile(rf"(\d+(?:\.\d+)?)x(?::({'|'.join(SHAPES)}))?")
_FILE = ".json"
_BLOCK = re.compile(r"(\d+)([abw]?)([hkv]?)")
_MATCHINGS = {"": "", "a": "adjacent", "b": "bipartite", "w": "ward"}
_METRICS = {"": "", "h": "hidden", "k": "key", "v": "value"}


def parse_rates(text: str) -> list[Rate]:
    """Read settings of r from text: `0,8,[45,20,12,6],[49|6,4],(8,-1),3x,fitted.json` holds seven.

    Behind a `|` a block may have letters for a matching (a: adjacent, b: bipartite, w: ward) and a metric (h: hidden,
    k: key, v: value) of its own: `[49|6a,4v,2bk]`.

    Raises:
        ValueError: if the text is not a list of such settings, or a file in it holds no schedule.
    """
    if _is_file(text):  # its name may hold commas and brackets
        return [Schedule.load(text.strip())]
    parts = [part.strip() for part in _PART.findall(text) if part.strip()]
    if not parts or re.sub(r"[\s,]", "", _PART.sub("", text)):
        raise ValueError(f"--r {text!r} is not understood: write for example 0,8,16 or 0,[45,20,12,6],(8,-1),3x")
    return [_parse_one(part, text) for part in parts]


def parse_rate(text: str) -> Rate:
    """Read one setting of r; numbers with commas between them are one per block.

    Raises:
        ValueError: if the text is none of these.
    """
    rates = parse_rates(text)
    return rates[0] if len(rates) == 1 else check_rate(rates)


def rate_name(rate: Rate) -> str:
    """Return the rate as one writes it: `8`, `[45,20,12,6]`, `[49,24|6,4,2]`, `(8,-1)` or `3x`."""
    if isinstance(rate, tuple):
        return f"({rate[0]},{rate[1]:g})"
    if isinstance(rate, ComputeTarget):
        return f"{rate.macs_cut:g}x" + ("" if rate.shape == AUTO else f":{rate.shape}")
    if isinstance(rate, Schedule):
        before, blocks = ",".join(map(str, rate.before)), ",".join(_block_names(rate))
        matching = "" if rate.before_matching == "adjacent" else f"{rate.before_matching}:"
        return f"[{matching}{before}|{blocks}]"
    return str(rate).replace(" ", "")


def _block_names(schedule: Schedule) -> list[str]:
    """Return what each block merges, with a letter for a matching or a metric of its own."""
    kinds = ((schedule.matchings, _MATCHINGS), (schedule.metrics, _METRICS))
    return [
        "".join([str(r), *(_letter(names[i] if i < len(names) else "", known) for names, known in kinds)])
        for i, r in enumerate(schedule.blocks)
    ]


def _letter(name: str, known: dict[str, str]) -> str:
    """Return the letter of a name, and one without a letter in brackets."""
    return next((letter for letter, said in known.items() if said == name), f"({name})")


def _schedule(before: list[int], blocks: str, before_matching: str) -> Schedule:
    """Return the schedule whose blocks are written as `_block_names` gives them."""
    parts = [part.strip() for part in blocks.split(",")] if blocks.strip() else []
    found = [_BLOCK.fullmatch(part) for part in parts]
    if not all(found):
        raise SyntaxError(blocks)
    groups = [match.groups() for match in found if match]
    numbers, matchings, metrics = ([group[i] for group in groups] for i in range(3))
    return Schedule(
        tuple(int(number) for number in numbers),
        tuple(before),
        before_matching,
        matchings=_named(matchings, _MATCHINGS),
        metrics=_named(metrics, _METRICS),
    )


def _named(letters: list[str], names: dict[str, str]) -> tuple[str, ...]:
    """Return the names without those at the end that say nothing."""
    found = [names[letter] for letter in letters]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _is_file(text: str) -> bool:
    name = text.strip()
    return name.endswith(_FILE) and Path(name).is_file()


def _parse_one(part: str, text: str) -> Rate:
    if part.endswith(_FILE):
        return Schedule.load(part)
    if found := _TARGET.fullmatch(part):
        return ComputeTarget(float(found[1]), found[2] or AUTO)
    try:
        if "|" in part:
            matching, _, numbers = part.strip("[]").rpartition(":")
            before, _, blocks = numbers.partition("|")
            return _schedule(ast.literal_eval(f"[{before}]"), blocks, matching or "adjacent")
        return check_rate(ast.literal_eval(part))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"--r {text!r} is not understood: write for example 0,8,16 or 0,[45,20,12,6],(8,-1),3x"
        ) from error
    except ValueError as error:
        if "not understood" in str(error) or "unknown" in str(error) or "tuple" in str(error):
            raise
        raise ValueError(
            f"--r {text!r} is not understood: write for example 0,8,16 or 0,[45,20,12,6],(8,-1),3x"
        ) from error
