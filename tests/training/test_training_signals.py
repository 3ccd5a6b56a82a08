from __future__ import annotations

import signal
import threading

import pytest

from tome_audio.training import signals
from tome_audio.training.signals import StopRequest


def test_signals_are_noted_and_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        assert stop.name == ""
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # at once: the launcher's echo
        assert stop.name == "SIGTERM"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def heeded():
    """Ctrl-C as Python has it: a shell's background jobs, and so tests that run as one, begin with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_one_that_is_meant_stops_at_once(monkeypatch, heeded):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        now[0] += 2.0
        signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGINT"
        now[0] += 2.0
        signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_nothing_is_touched():
    before, names = signal.getsignal(signal.SIGINT), []

    def work():
        with StopRequest() as stop:
            names.append(stop.name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names == [""] and signal.getsignal(signal.SIGINT) is before
