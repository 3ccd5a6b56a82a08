"""Ctrl-C and SIGTERM as a request that is asked for between steps, instead of an exception in the middle of one."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_ECHO_SECONDS = 3.0
"""A launcher hands on the Ctrl-C that its processes have got from the terminal already."""


class StopRequest:
    """Note SIGINT and SIGTERM while the context is open; `name` is that of the first one, or empty.

    One that comes more than three seconds after the first does what it did before the context was opened: a second
    Ctrl-C stops at once. Outside the main thread no handler can be set, and nothing is noted.
    """

    def __init__(self) -> None:
        self.name = ""
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.name:
            self.name, self._since = signal.Signals(number).name, time.monotonic()
        elif time.monotonic() - self._since > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
