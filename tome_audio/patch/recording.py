"""Take the keys or values that attention computes anyway, without a second projection and without shared state.

A forward hook stays on the projection of every block; it hands its output to whoever asked for it in the same thread,
and does nothing otherwise. Keeping the request in the thread, not on the module, lets threads share one model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_request = threading.local()


def add_recorder(module: nn.Module) -> None:
    """Let `record` see the outputs of this module; once is enough."""
    if not any(is_recorder(hook) for hook in module._forward_hooks.values()):
        module.register_forward_hook(_hand_over)


def remove_recorder(module: nn.Module) -> None:
    """Undo `add_recorder`, also on a copy of the module."""
    for key in [key for key, hook in module._forward_hooks.items() if hook is _hand_over]:
        del module._forward_hooks[key]


def is_recorder(hook: object) -> bool:
    """Return whether a forward hook is the one that `add_recorder` adds."""
    return hook is _hand_over


def record(module: nn.Module, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Call `function` and return its result and what `module`, which has a recorder, put out inside it.

    Raises:
        RuntimeError: if the module did not run.
    """
    outputs: list[tuple[nn.Module, Tensor]] = []
    _request.outputs = outputs
    try:
        result = function(*args, **kwargs)
    finally:
        _request.outputs = None
    seen = next((output for source, output in outputs if source is module), None)
    if seen is None:
        raise RuntimeError(
            "attention did not run the projection that holds its keys and values (was it wrapped, fused or replaced "
            'after apply_patch?); call apply_patch again, or use metric="hidden"'
        )
    return result, seen


def _hand_over(module: nn.Module, args: Any, output: Tensor) -> None:
    outputs = getattr(_request, "outputs", None)
    if outputs is not None:
        outputs.append((module, output))
