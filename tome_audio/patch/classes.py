"""Change the class of one module in place, keep its name, and stay picklable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn


class Swapped:
    """Mixin of every class made by `swap_class`; `base_class` is the class the module had before."""

    base_class: ClassVar[type[nn.Module]]
    mixin: ClassVar[type[Swapped]]

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[type, type], Any]:
        # The class is made at run time, so pickle and deepcopy are told how to make it again.
        get_state = getattr(super(), "__getstate__", None)
        state = get_state() if get_state is not None else self.__dict__
        return _new_instance, (self.mixin, self.base_class), state


def swap_class(module: nn.Module, mixin: type[Swapped]) -> None:
    """Put `mixin` in front of the module's class, in place.

    Name and module of the class stay: Hugging Face looks both up (pipelines, output recording, `save_pretrained`).
    """
    module.__class__ = _derive(mixin, type(module))


def restore_class(module: nn.Module) -> None:
    """Give a swapped module the class it had."""
    if isinstance(module, Swapped):
        base: Any = module.base_class
        module.__class__ = base


_derived: dict[tuple[type, type], Any] = {}


def _derive(mixin: type, base: type) -> Any:
    if (mixin, base) not in _derived:
        _derived[mixin, base] = _make_class(mixin, base)
    return _derived[mixin, base]


def _make_class(mixin: type, base: type) -> Any:
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (mixin, base), {**names, "base_class": base, "mixin": mixin})


def _new_instance(mixin: type, base: type) -> Any:
    cls = _derive(mixin, base)
    return cls.__new__(cls)
