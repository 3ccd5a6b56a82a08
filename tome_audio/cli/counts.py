"""Options that count something, and the number of threads."""

from __future__ import annotations

import torch


def check_counts(**counts: int | None) -> None:
    """Raise unless each option is at least 1 or None.

    Raises:
        ValueError: One is not; it is named as on the command line.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")


def use_threads(threads: int | None) -> None:
    """Let PyTorch compute in this many CPU threads; None leaves PyTorch's choice.

    Raises:
        ValueError: Fewer than one.
    """
    check_counts(threads=threads)
    if threads is not None:
        torch.set_num_threads(threads)
