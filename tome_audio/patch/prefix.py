"""Whether the head of the model that is running reads the prefix tokens alone.

Then the last block needs keys and values of all tokens, but queries, projection and feed-forward of the prefix only.
The same block list can also serve a caller who wants all tokens (`forward_features`), so the model's own `forward`
says it, call by call and thread by thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import nn

from tome_audio.patch.recording import is_recorder

_reading = threading.local()


def read_prefix(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `forward` of a model whose head reads the prefix tokens alone."""
    before = is_prefix_read()
    _reading.prefix = True
    try:
        return forward(*args, **kwargs)
    finally:
        _reading.prefix = before


def is_prefix_read() -> bool:
    """Return whether this thread is inside `read_prefix`."""
    return getattr(_reading, "prefix", False)


def has_hooks(module: nn.Module) -> bool:
    """Return whether somebody else's forward hooks are on the module, which must then be called, not read."""
    hooks = [hook for hook in module._forward_hooks.values() if not is_recorder(hook)]
    return bool(hooks or module._forward_pre_hooks)


def is_plain_linear(layer: Any) -> bool:
    """Return whether the rows of this layer's weight can be used on their own: no subclass, hook or special weight."""
    return type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and not has_hooks(layer)
