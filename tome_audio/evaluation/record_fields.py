"""What a benchmark record holds: suites, fields, their order, and how a value is written in a CSV cell."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

METHODS = ("unpatched", "merged", "merged-unfused", "merged-random", "topk-class", "random-drop", "stride-16")

_SPEEDUP = ("speedup", "speedup_low", "speedup_high")
_LATENCY = ("latency_median_ms", "latency_p95_ms", "baseline_median_ms", "baseline_p95_ms")

# The fields each suite cannot do without, in the order in which suites are listed.
NEEDED: dict[str, tuple[str, ...]] = {
    "throughput": ("macs_cut", *_SPEEDUP),
    "latency": _LATENCY,
    "flops": ("macs",),
    "accuracy": ("macs_cut", "accuracy", "n_clips"),
    "training_step": _SPEEDUP,
    "end_to_end": ("stages", "end_to_end_share"),
    "merge_overhead": ("overhead", "stages"),
    "memory": ("peak_bytes", "baseline_peak_bytes"),
    "scaling": _SPEEDUP,
    "size_bias": _SPEEDUP,
}

# Suites whose benchmark times the whole call on one batch, so that its median gives clips per second.
TIMED = ("throughput", "latency", "training_step", "end_to_end", "scaling", "size_bias")

# Two records that agree in these are two measurements of the same thing: the later one counts.
KEY = ("suite", "method", "r", "batch", "dtype", "compiled", "prefix_only", "n_tokens", "n_clips")

TEXT = ("suite", "model", "method", "r", "dtype", "device", "torch", "commit")
FLAGS = ("compiled", "prefix_only")
COUNTS = ("batch", "n_tokens")

NUMBERS = (
    *COUNTS, "tokens_left", "macs", "macs_cut", *_SPEEDUP, "speedup_fp32", "speedup_fp32_low", "speedup_fp32_high",
    "turns", "clips_per_second", "latency_ratio", "latency_p95_ratio", *_LATENCY, "accuracy", "accuracy_spoken",
    "agreement", "n_clips", "overhead", "end_to_end_share", "relative_time", "peak_bytes", "baseline_peak_bytes",
    "training_peak_bytes", "baseline_training_peak_bytes", "macs_fvcore", "macs_counter", "macs_outside_blocks",
    "macs_matching", "block_tokens",
)  # fmt: skip

# Columns of a table, in order. `stage_shares` are the shares of `stages`, which are seconds and kept for a GPU only.
COLUMNS = (
    "suite", "model", "method", "r", "batch", "dtype", "device", "compiled", "prefix_only", "n_tokens", "tokens",
    *NUMBERS[2:], "stage_shares", "stages", "torch", "commit", "date",
)  # fmt: skip

# Where a record was measured: kept beside the table, not in it.
ENVIRONMENT = (
    "python", "cpu", "cores", "threads", "gpu", "torch", "torchaudio", "timm", "transformers", "numpy", "tome_audio",
    "command",
)  # fmt: skip


def check_record(record: Mapping[str, Any], where: str) -> None:
    """Raise unless the record holds what its suite needs.

    Raises:
        ValueError: naming the file, the benchmark and the field.
    """
    suite = record.get("suite")
    if suite is None:
        raise ValueError(f"{where}: extra_info has no 'suite': this is not a record of our benchmarks")
    if suite not in NEEDED:
        raise ValueError(f"{where}: unknown suite {suite!r}; known are {', '.join(NEEDED)}")
    needed = (*TEXT, *FLAGS, *COUNTS, *(() if record.get("method") == "unpatched" else NEEDED[suite]))
    missing = [name for name in needed if record.get(name) is None]
    if missing:
        raise ValueError(f"{where}: a {suite} record needs {', '.join(missing)}")
    for name, value in record.items():
        if value is not None and not _is_sound(name, value):
            raise ValueError(f"{where}: {name} is {value!r}, which is not {_wanted(name)}")


def cell(value: Any) -> str:
    """Return a value as it stands in the CSV: floats with five digits, lists and mappings as JSON."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(_rounded(value), separators=(",", ":"))
    return str(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return value


def _is_sound(name: str, value: Any) -> bool:
    if name == "r":
        return isinstance(value, str) and bool(value.strip())
    if name in TEXT:
        return isinstance(value, str) and bool(value)
    if name in FLAGS:
        return isinstance(value, bool)
    if name in COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= (name == "n_tokens")
    if name == "tokens":
        return isinstance(value, list) and bool(value) and all(isinstance(n, int) for n in value)
    if name == "stages":
        seconds = list(value.values()) if isinstance(value, dict) else []
        return all(_is_amount(entry) for entry in seconds) and sum(seconds) > 0
    if name in NUMBERS:
        return _is_amount(value) and (value > 0 or "speedup" not in name)
    return not isinstance(value, float) or math.isfinite(value)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _wanted(name: str) -> str:
    if name in TEXT:
        return "text"
    if name in FLAGS:
        return "true or false"
    if name in COUNTS:
        return "a whole number that makes sense"
    if name == "tokens":
        return "a list of whole numbers"
    return "seconds per stage" if name == "stages" else "a finite number of the right sign"
