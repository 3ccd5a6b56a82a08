"""Import what must fit torch exactly, or say in one sentence what does not fit."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch

_RELEASED_TOGETHER = ("torch", "torchvision", "torchaudio")


def import_matched(module: str, purpose: str) -> ModuleType:
    """Import a module of torchaudio, torchvision or something built on them.

    Args:
        module: full name, such as "torchaudio.functional".
        purpose: what needs it; it opens the error message.

    Raises:
        ImportError: the package is absent, or torch, torchvision and torchaudio are not of one release and one build;
            the message names the versions found.
    """
    try:
        # torchaudio makes tensors while it is imported. Somebody may be building a model on the meta device just then.
        with torch.device("cpu"):
            return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # A CUDA mismatch is a RuntimeError and a missing shared library an OSError, of many lines each.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        package = module.split(".")[0]
        found = ", ".join(f"{name} {_version(name)}" for name in _RELEASED_TOGETHER)
        raise ImportError(
            f"{purpose} needs {package}, which cannot be imported ({reason}): install torch, torchvision and "
            f"torchaudio of one release and one build, as pinned in constraints.txt (found {found})"
        ) from error


def import_extra(module: str, purpose: str, extra: str) -> ModuleType:
    """Import a module that only an optional extra of ours installs.

    Args:
        module: full name, such as "torchmetrics.functional".
        purpose: what needs it; it opens the error message.
        extra: name of the extra that holds it.

    Raises:
        ImportError: the package is absent or cannot be imported; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImportError(
            f"{purpose} needs {module.split('.')[0]}, which cannot be imported ({reason}): "
            f"pip install 'tome_audio[{extra}]'"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
