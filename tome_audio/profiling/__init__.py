"""Measuring what a model costs: interleaved timings, FLOPs with fused attention counted, the machine's name."""

from tome_audio.profiling.environment import environment
from tome_audio.profiling.flops import count_macs
from tome_audio.profiling.throughput import Ratio, interleaved, ratio

__all__ = ["Ratio", "count_macs", "environment", "interleaved", "ratio"]
