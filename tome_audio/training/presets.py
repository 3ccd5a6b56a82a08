"""Model size, input and training settings that were tried, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """An AST small enough to train from scratch on two CPU cores, and how to train it.

    The first group are arguments of `tome_audio.models.ast.AST`, the second of `training.loop.fit`, the
    third of `audio.augment`. Frames are 10 ms. Strides below the patch side of 16 make tokens overlap:
    that costs compute in training and leaves redundancy for merging.
    """

    width: int
    depth: int
    n_heads: int
    n_frames: int
    fstride: int = 16
    tstride: int = 8

    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip_norm: float = 1.0
    label_smoothing: float = 0.1

    max_freq: int = 24
    max_time: int = 16
    max_shift: int = 8


DEMO = Preset(width=64, depth=6, n_heads=2, n_frames=96, epochs=12, lr=1e-3, max_freq=12, max_time=8)
"""For one-second sound events (90 tokens)."""

SPEECH = Preset(width=96, depth=6, n_heads=3, n_frames=80, max_freq=16, max_time=10)
"""For spoken digits and other words of up to 0.8 seconds (74 tokens)."""
