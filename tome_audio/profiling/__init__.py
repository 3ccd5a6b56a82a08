"""Measuring what a model costs: interleaved timings, stages, FLOPs with fused attention counted, memory, machine."""

from tome_audio.profiling.environment import environment
from tome_audio.profiling.flops import count_macs
from tome_audio.profiling.memory import peak_bytes
from tome_audio.profiling.stages import Mark, stage_seconds
from tome_audio.profiling.throughput import Latency, Ratio, interleaved, interleaved_for, latency, ratio, timed

__all__ = [
    "Latency",
    "Mark",
    "Ratio",
    "count_macs",
    "environment",
    "interleaved",
    "interleaved_for",
    "latency",
    "peak_bytes",
    "ratio",
    "stage_seconds",
    "timed",
]
