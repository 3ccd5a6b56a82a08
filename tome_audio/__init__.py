"""Token merging for audio transformers: `apply_patch(model); model.r = 32`."""

from tome_audio.merge import ComputeTarget, Schedule, SimilarityThreshold
from tome_audio.patch import MergeConfig, apply_patch, remove_patch

__version__ = "0.1.0"

__all__ = [
    "ComputeTarget",
    "MergeConfig",
    "Schedule",
    "SimilarityThreshold",
    "__version__",
    "apply_patch",
    "remove_patch",
]
