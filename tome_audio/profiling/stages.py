"""Where the time of one call goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

from torch import nn

from tome_audio.profiling.throughput import wait


class Mark(NamedTuple):
    """A stage of a call ends when `module` is entered ("before") or left ("after") for the first time."""

    stage: str
    module: nn.Module
    when: Literal["before", "after"]


def stage_seconds(call: Callable[[], object], marks: Sequence[Mark], last: str) -> dict[str, float]:
    """Time one call in stages: one per mark, in the order they are passed, and `last` for what follows.

    A GPU is waited for at every mark, so the stages do not overlap; their sum is a little more than the call takes.

    Raises:
        RuntimeError: if the call does not pass every mark in order.
    """
    passed: list[tuple[str, float]] = []

    def pass_mark(stage: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if all(stage != name for name, _ in passed):
                wait()
                passed.append((stage, time.perf_counter()))

        return hook

    with ExitStack() as hooks:
        for stage, module, when in marks:
            register = module.register_forward_pre_hook if when == "before" else module.register_forward_hook
            hooks.callback(register(pass_mark(stage)).remove)
        wait()
        start = time.perf_counter()
        call()
        wait()
        passed.append((last, time.perf_counter()))
    wanted = [*(mark.stage for mark in marks), last]
    if [stage for stage, _ in passed] != wanted:
        raise RuntimeError(
            f"the call should pass the stages {', '.join(wanted)} in this order, but it passed "
            f"{', '.join(stage for stage, _ in passed)}; mark modules that it runs"
        )
    times = [start, *(at for _, at in passed)]
    return {stage: end - begin for stage, begin, end in zip(wanted, times, times[1:], strict=False)}
