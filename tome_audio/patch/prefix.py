"""Whether the head of the model that is running reads the prefix tokens alone.

Then the last block needs keys and values of all tokens, but queries, projection and feed-forward of the prefix only.
The same block list can also serve a caller who wants all tokens (`forward_features`), so the model's own `forward`
says it, call by call and thread by thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from tome_audio.patch.classes import Swapped
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
    # A forward set on the instance is a wrapper: attention maps, offloading.
    if "forward" in module.__dict__:
        return True
    hooks = [hook for hook in module._forward_hooks.values() if not is_recorder(hook)]
    return bool(hooks or module._forward_pre_hooks)


def is_own(model: nn.Module, names: Sequence[str], home: str) -> bool:
    """Return whether the model runs its family's own methods of these names, from modules that begin with `home`.

    A class derived from it, or a method set on the instance, may read any token.
    """
    base: Any = model.base_class if isinstance(model, Swapped) else type(model)
    return all(getattr(base, name).__module__.startswith(home) and name not in model.__dict__ for name in names)


def is_plain_linear(layer: Any) -> bool:
    """Return whether the rows of this layer's weight can be used on their own: no subclass, hook or special weight."""
    return type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and not has_hooks(layer)
