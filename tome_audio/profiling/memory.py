"""The most memory a call holds at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

_CPU = 0  # how a trace names the device of an allocation


def peak_bytes(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes of tensors that the call held at once, beyond what was held before it.

    Weights and inputs are held before, so they are not counted. On a GPU the caching allocator is asked; on a CPU every
    allocation of PyTorch is traced, also those inside its operators, which gives the same number each time, where the
    resident memory of the process would depend on what ran before.

    Raises:
        ValueError: if the device is neither a CPU nor a CUDA GPU.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if kind != "cpu":
        raise ValueError(f"peak_bytes measures on cpu and cuda, not on {kind}")
    held = peak = 0
    for change in _allocations(call):
        held += change
        peak = max(peak, held)
    return peak


def _allocations(call: Callable[[], object]) -> list[int]:
    """Return the bytes taken (positive) and given back (negative) on the CPU while the call runs, in order."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    found = [e for e in events if e.get("name") == "[memory]" and e["args"]["Device Type"] == _CPU]
    return [event["args"]["Bytes"] for event in sorted(found, key=lambda event: event["ts"])]
