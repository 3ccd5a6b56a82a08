"""Where commands print: tables on stdout, progress and warnings on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def console() -> Console:
    """Return the console for results; wide enough for a table where stdout is a file."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)


def warn(message: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"tome-audio: {message}\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on stderr while the context is open; nothing where stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        yield bars


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        OSError: if the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(text.encode("utf-8"))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
