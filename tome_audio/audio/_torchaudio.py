"""The one place that imports torchaudio: late, and with a readable error."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def import_torchaudio(module: str, purpose: str) -> ModuleType:
    """Import a torchaudio module, or say in one sentence why that fails and what to install.

    Args:
        module: full name, such as ``"torchaudio.functional"``.
        purpose: what needs it; it opens the error message.

    Raises:
        ImportError: torchaudio is absent, or was built for another torch or CUDA.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        # A CUDA mismatch is a RuntimeError and a missing shared library an OSError, of many lines each.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImportError(
            f"{purpose} needs torchaudio, which cannot be imported ({reason}): install the torchaudio "
            f"build that matches torch {torch.__version__}, as pinned in constraints.txt"
        ) from error
