"""Teachers that answer while the student trains: the student itself without merging, or another model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tome_audio.patch import merge_config, set_r


class UnmergedSelf:
    """The student's own weights with r = 0, in eval mode and without gradient: what merging should not change."""

    def __call__(self, student: nn.Module, features: Tensor, **inputs: Any) -> Tensor:
        """Return logits (B, K); the student keeps its r and its mode.

        Raises:
            NotPatchedError: The student is not patched.
        """
        # What wraps the model for several processes wants every call to be followed by a backward pass.
        model = student.module if isinstance(student, DistributedDataParallel) else student
        rate = merge_config(model).r
        modes = [(module, module.training) for module in model.modules()]
        set_r(model, 0)
        model.eval()
        try:
            with torch.no_grad():
                return logits_of(model(features, **inputs))
        finally:
            set_r(model, rate)
            for module, mode in modes:
                module.training = mode


class ModelTeacher:
    """Another model, frozen and in eval mode, moved to where the features are.

    Args:
        model: Maps features to logits (B, K).
        prepare: Makes its features (B, ...) from the student's; None takes them as they are.
        precision: Of its forward pass, whatever the student trains in; None computes as the student does.
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[Tensor], Tensor] | None = None,
        precision: Literal["fp32", "bf16"] | None = None,
    ) -> None:
        self.model, self.prepare = model.requires_grad_(False).eval(), prepare
        self.precision = precision
        self._device: torch.device | None = None

    def __call__(self, student: nn.Module, features: Tensor, **inputs: Any) -> Tensor:
        """Return logits (B, K)."""
        if self._device != features.device:
            self.model.to(features.device)
            self._device = features.device
        with torch.no_grad(), self._autocast(features.device.type):
            return logits_of(self.model(features if self.prepare is None else self.prepare(features)))

    def _autocast(self, device: str) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on: the kind of model, and a checksum of its weights."""
        digest = hashlib.sha256()
        for value in (*self.model.parameters(), *self.model.buffers()):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        facts = {"model": type(self.model).__name__, "weights": digest.hexdigest()[:16]}
        return facts if self.precision is None else {**facts, "precision": self.precision}


def logits_of(output: Any) -> Tensor:
    """Return the logits: Hugging Face models answer with an object or a mapping that holds them.

    Raises:
        TypeError: There are none.
    """
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise TypeError(f"the model should answer with logits, got {type(output).__name__}")
    return found
