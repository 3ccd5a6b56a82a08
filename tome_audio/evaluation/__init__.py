"""What merging costs and gains: accuracy, multiply-accumulates and measured speed against r."""

from tome_audio.evaluation.sweep import SweepAnswers, SweepRow, sweep, sweep_answers

__all__ = ["SweepAnswers", "SweepRow", "sweep", "sweep_answers"]
