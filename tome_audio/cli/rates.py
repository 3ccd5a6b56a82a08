"""Read r from the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tome_audio.merge import SHAPES, ComputeTarget, Rate, Schedule, check_rate

_PART = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[^,\[\]()]+")
_TARGET = re.compile(rf"(\d+(?:\.\d+)?)x(?::({'|'.join(SHAPES)}))?")
_FILE = ".json"


def parse_rates(text: str) -> list[Rate]:
    """Read settings of r from text: `0,8,[45,20,12,6],[49|6,4],(8,-1),3x,fitted.json` holds seven.

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
        return f"{rate.macs_cut:g}x" + ("" if rate.shape == SHAPES[0] else f":{rate.shape}")
    if isinstance(rate, Schedule):
        before, blocks = (",".join(map(str, numbers)) for numbers in (rate.before, rate.blocks))
        matching = "" if rate.before_matching == "adjacent" else f"{rate.before_matching}:"
        return f"[{matching}{before}|{blocks}]"
    return str(rate).replace(" ", "")


def _is_file(text: str) -> bool:
    name = text.strip()
    return name.endswith(_FILE) and Path(name).is_file()


def _parse_one(part: str, text: str) -> Rate:
    if part.endswith(_FILE):
        return Schedule.load(part)
    if found := _TARGET.fullmatch(part):
        return ComputeTarget(float(found[1]), found[2] or SHAPES[0])
    try:
        if "|" in part:
            matching, _, numbers = part.strip("[]").rpartition(":")
            before, blocks = (ast.literal_eval(f"[{half}]") for half in numbers.split("|"))
            return Schedule(blocks, before, matching or "adjacent")
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
