"""How a run ends before its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to change."""


class TrainingInterrupted(KeyboardInterrupt):
    """A signal asked the run to stop, and it saved its state first; the message says where. A command ends with 130."""


def diverged(what: str, epoch: int, step: int, lr: float) -> TrainingError:
    """Return the error for a loss, gradient or score that is not finite; epoch and step count from 0."""
    return TrainingError(
        f"{what} at epoch {epoch}, step {step} of the run (lr {lr:.3g}): lower lr or clip_norm, use bf16 or fp32 "
        "instead of fp16, or look for values that are not finite in the clips"
    )


@contextmanager
def memory_errors(batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error of any device into one that says what to change.

    Raises:
        TrainingError: Memory ran out while the context was open.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        # The CPU's allocator raises a plain RuntimeError.
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in text:
            raise
        raise TrainingError(
            f"memory ran out with batches of {batch_size}: lower batch_size and raise accumulate by as much, turn on "
            f"checkpoint_activations, or use bf16 ({text.splitlines()[0] if text else 'no details'})"
        ) from error
