"""Make a model merge tokens in place: `apply_patch(model); model.r = 32`."""

from tome_audio.patch.apply import apply_patch, remove_patch
from tome_audio.patch.config import MergeConfig
from tome_audio.patch.model import NotPatchedError, is_patched, merge_config, set_r, trace
from tome_audio.patch.padding import token_mask
from tome_audio.patch.registry import (
    Adapter,
    UnsupportedModelError,
    register_adapter,
    registered_adapters,
    unregister_adapter,
)
from tome_audio.patch.report import MergeReport, describe, reachable_target
from tome_audio.patch.state import MergeClampWarning
from tome_audio.patch.trace import Trace

__all__ = [
    "Adapter",
    "MergeClampWarning",
    "MergeConfig",
    "MergeReport",
    "NotPatchedError",
    "Trace",
    "UnsupportedModelError",
    "apply_patch",
    "describe",
    "is_patched",
    "merge_config",
    "reachable_target",
    "register_adapter",
    "registered_adapters",
    "remove_patch",
    "set_r",
    "token_mask",
    "trace",
    "unregister_adapter",
]
