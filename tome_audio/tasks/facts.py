"""What a task is made of, as plain values: a resumed run must say the same."""

from __future__ import annotations

from functools import partial
from typing import Any


def named_facts(name: str, value: Any) -> dict[str, Any]:
    """Return a value under its name as plain values that are the same in the next run.

    A plain value stays as it is; a function or class gives its name, with the arguments that are fixed; anything else
    gives the name of its class and what its own method `facts` says.
    """
    # Nothing that holds an address.
    if value is None or type(value) in (str, int, float, bool):
        return {name: value}
    if isinstance(value, partial):
        facts = named_facts(name, value.func)
        for key, given in [*enumerate(value.args), *value.keywords.items()]:
            facts |= named_facts(f"{name}.{key}", given)
        return facts
    said = None if isinstance(value, type) else getattr(value, "facts", None)
    own = {f"{name}.{key}": given for key, given in said().items()} if callable(said) else {}
    return {name: getattr(value, "__qualname__", type(value).__name__), **own}
