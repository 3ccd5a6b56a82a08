"""A schedule as a small JSON file: what to merge, the model it was fitted to, and how that went."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FORMAT = "tome_audio schedule"
VERSION = 1

_FIELDS = ("blocks", "before", "before_matching", "depth", "n_tokens")
_OF_BLOCKS = ("matchings", "metrics")  # written where a schedule says something of them


def write_schedule(path: str | Path, fields: dict[str, Any], fitted: dict[str, Any] | None = None) -> None:
    """Write the fields of a schedule whole or not at all.

    Args:
        path: of the JSON file; its folder must exist.
        fields: of a `Schedule`, by name.
        fitted: how it was found, for people to read (model, target, divergence, versions); nothing depends on it.

    Raises:
        OSError: if the folder cannot be written.
        TypeError: if `fitted` holds what JSON cannot.
    """
    path = Path(path)
    said = [*_FIELDS, *(name for name in _OF_BLOCKS if fields.get(name))]
    whole = {"format": FORMAT, "version": VERSION, **{name: fields[name] for name in said}, "fitted": fitted or {}}
    lines = [f"  {json.dumps(name)}: {_value(value)}" for name, value in whole.items()]
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_schedule(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the `Schedule` in a file, by name, and how it was found.

    Raises:
        ValueError: if there is no such file, or it holds no schedule of a version that is known.
    """
    path = Path(path)
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a schedule: {error.strerror}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is not a schedule: it is no JSON ({error})") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ValueError(f"{path} is not a schedule: give a file that `tome-audio fit` or Schedule.save wrote")
    if whole.get("version") != VERSION:
        raise ValueError(
            f"{path} is a schedule of version {whole.get('version')!r}, but this tome_audio knows {VERSION}; "
            "fit it again, or use the release that wrote it"
        )
    if missing := [name for name in _FIELDS if name not in whole]:
        raise ValueError(f"{path} is a damaged schedule: it has no {', '.join(missing)}")
    fitted = whole.get("fitted")
    known = [*_FIELDS, *(name for name in _OF_BLOCKS if name in whole)]
    return {name: whole[name] for name in known}, fitted if isinstance(fitted, dict) else {}


def _value(value: Any) -> str:
    """Return lists of numbers in one line, and one line for each entry of a mapping."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    lines = [f"    {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in value.items()]
    return "{\n" + ",\n".join(lines) + "\n  }"
