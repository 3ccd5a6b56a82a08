"""One way to refuse a checkpoint: every problem named in one error, before any weight is touched."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

_SHOWN = 6


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not fit the model it should fill."""


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def mismatches(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Say how two state dicts differ in keys and shapes: one sentence per kind of difference."""
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, needs {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    kinds = (("missing keys", missing), ("unexpected keys", unexpected), ("wrong shapes", shapes))
    return [f"{kind}: {_listed(names)}" for kind, names in kinds if names]


def load_strict(
    model: nn.Module, state_dict: Mapping[str, torch.Tensor], source: str, advice: str, *, assign: bool = False
) -> None:
    """Load a state dict into a model in place, or raise and leave the model as it was.

    Args:
        model: Model to fill.
        state_dict: Weights under the model's own key names.
        source: What the weights came from, for the error.
        advice: What the reader of the error should do.
        assign: Put the given tensors themselves in the model (as `nn.Module.load_state_dict` does); needed
            where the model was built on the meta device.

    Raises:
        CheckpointError: A key is missing or unexpected, or a shape differs.
    """
    problems = mismatches(model.state_dict(), state_dict)
    if problems:
        raise CheckpointError(f"{source} does not fit this {type(model).__name__}: {'; '.join(problems)}. {advice}")
    model.load_state_dict(dict(state_dict), strict=True, assign=assign)
