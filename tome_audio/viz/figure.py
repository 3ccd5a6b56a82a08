"""Write a matplotlib figure as PNG and SVG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

FORMATS = (".png", ".svg")


def picture_formats(out: str, option: str) -> tuple[Path, tuple[str, ...]]:
    """Return the path and the formats to write for what somebody gave as an option; both without an ending.

    Raises:
        ValueError: if the ending is that of no known format.
    """
    path = Path(out)
    if path.suffix == "":
        return path, FORMATS
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{option} {out}: pictures end in {' or '.join(FORMATS)}")
    return path, (path.suffix.lower(),)


def save_figure(figure: Figure, path: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `path` with the endings .png and .svg, or those of `formats`, whole or not at all; return what was written.

    Raises:
        OSError: if the folder cannot be written.
    """
    written = []
    for ending in formats:
        target = Path(path).with_suffix(ending)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            # No date and no random names in the file: the same numbers give the same bytes.
            with matplotlib.rc_context({"svg.hashsalt": "tome_audio"}):
                metadata = {"Date": None} if ending == ".svg" else None
                figure.savefig(partial, format=ending[1:], dpi=150, metadata=metadata)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        written.append(target)
    return written
