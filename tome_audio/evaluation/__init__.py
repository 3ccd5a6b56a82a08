"""What merging costs and gains: accuracy, multiply-accumulates and measured speed against r."""

from tome_audio.evaluation.sweep import SweepRow, sweep

__all__ = ["SweepRow", "sweep"]
