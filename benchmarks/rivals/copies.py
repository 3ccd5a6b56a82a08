"""Copies of a model, so that no method touches the model it is given."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from tome_audio.patch import apply_patch, is_patched, remove_patch

ModelT = TypeVar("ModelT", bound=nn.Module)


def own_copy(model: ModelT) -> ModelT:
    """Return a copy with weights of its own.

    Raises:
        ValueError: if the model is patched.
    """
    _refuse_patched(model)
    return copy.deepcopy(model)


def sharing_copy(model: ModelT) -> ModelT:
    """Return a copy that shares the weights: cheap, for counting only, since `copy.to(...)` would change both.

    Raises:
        ValueError: if the model is patched.
    """
    _refuse_patched(model)
    return copy.deepcopy(model, {id(weight): weight for weight in (*model.parameters(), *model.buffers())})


def check_split(model: nn.Module) -> None:
    """Raise unless every block of the model, which stays as it is, can be run in two parts.

    Raises:
        UnsupportedModelError: what `apply_patch` finds.
    """
    remove_patch(apply_patch(model))


def _refuse_patched(model: nn.Module) -> None:
    if is_patched(model):
        raise ValueError(f"this {type(model).__name__} is patched: give the unpatched model")
