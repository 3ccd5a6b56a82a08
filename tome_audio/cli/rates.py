"""Read r from the command line."""

from __future__ import annotations

import ast

from tome_audio.merge import Rate, check_rate


def parse_rates(text: str) -> list[Rate]:
    """Read settings of r from text: `0,8,[45,20,12,6],(8,-1)` holds four.

    Raises:
        ValueError: if the text is not a list of whole numbers, [lists] and (r, inflection) pairs.
    """
    try:
        values = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = []
    if not values:
        raise ValueError(f"--r {text!r} is not understood: write for example 0,8,16 or 0,[45,20,12,6],(8,-1)")
    return [check_rate(value) for value in values]


def parse_rate(text: str) -> Rate:
    """Read one setting of r: `8`, `45,20,12,6` (one per block) or `(8,-1)` (r and inflection).

    Raises:
        ValueError: if the text is none of these.
    """
    rates = parse_rates(text)
    return rates[0] if len(rates) == 1 else check_rate(rates)


def rate_name(rate: Rate) -> str:
    """Return the rate as one writes it: `8`, `[45,20,12,6]` or `(8,-1)`."""
    if isinstance(rate, tuple):
        return f"({rate[0]},{rate[1]:g})"
    return str(rate).replace(" ", "")
