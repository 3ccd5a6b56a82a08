"""Timing a candidate in turns with its baseline, and the record that each benchmark leaves in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from candidates import Models, count_cost
from plan import Run, Settings

from tome_audio.cli.rates import rate_name
from tome_audio.profiling import environment, ratio, timed

Calls = Mapping[str, Callable[[], object]]
Seconds = dict[str, list[float]]

CANDIDATE, BASELINE, REFERENCE = "candidate", "baseline", "reference"


def measure(benchmark: Any, calls: Calls, settings: Settings, most: int = 25) -> Seconds:
    """Time every call once per turn and return seconds per call and turn; ratios can be formed turn by turn.

    The candidate is what pytest-benchmark times; the other calls run before it in each of its rounds. The first turn,
    which is not counted, says how many there is time for, `most` at most.

    Args:
        benchmark: the fixture of pytest-benchmark.
        calls: what to time; one of them is named "candidate".
        settings: options of the run.
        most: limit of the turns.
    """
    for _ in range(2 if settings.compiled else 1):
        seconds_of_turn = sum(timed(call) for call in calls.values())
    seconds: Seconds = {name: [] for name in calls}

    def run(name: str) -> None:
        seconds[name].append(timed(calls[name]))

    def before() -> None:
        for name in calls:
            if name != CANDIDATE:
                run(name)

    benchmark.pedantic(run, args=(CANDIDATE,), setup=before, rounds=settings.turns_for(seconds_of_turn, most))
    return seconds


def model_calls(models: Models, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return one forward pass of each model of a run, for `measure`."""
    calls: dict[str, Callable[[], object]] = {
        BASELINE: lambda: models.baseline(x), CANDIDATE: lambda: models.candidate(x)
    }  # fmt: skip
    if models.reference is not None:
        reference, wide = models.reference, x.float()
        calls[REFERENCE] = lambda: reference(wide)
    return calls


def speedups(seconds: Seconds) -> dict[str, float | int]:
    """Return the fields of a timed record: speed-up with quartiles, also against float32 where that was timed."""
    fields: dict[str, float | int] = {"turns": len(seconds[CANDIDATE])}
    fields |= _ratio_fields("speedup", seconds[BASELINE], seconds[CANDIDATE])
    if REFERENCE in seconds:
        fields |= _ratio_fields("speedup_fp32", seconds[REFERENCE], seconds[CANDIDATE])
    return fields


def record(benchmark: Any, suite: str, run: Run, settings: Settings, models: Models, **fields: Any) -> None:
    """Fill `extra_info` with the record of one run, and print its line.

    Fields that a suite gives replace those that follow from the run; one that gives `macs` gives all of the cost.
    """
    device = torch.cuda.get_device_name() if settings.device.type == "cuda" else "cpu"
    benchmark.extra_info.update(
        {
            "suite": suite, "model": run.case.name, "method": run.method, "r": rate_name(run.rate),
            "batch": run.batch, "dtype": run.dtype, "device": device, "compiled": settings.compiled,
            **({} if "macs" in fields else count_cost(run, models)._asdict()), **fields, **_environment(),
            "command": settings.command,
        }
    )  # fmt: skip
    benchmark.extra_info["n_tokens"] = benchmark.extra_info["tokens"][0]
    _print_line(benchmark.extra_info)


def _ratio_fields(name: str, baseline: Sequence[float], candidate: Sequence[float]) -> dict[str, float]:
    found = ratio(baseline, candidate)
    return {name: found.median, f"{name}_low": found.low, f"{name}_high": found.high}


def _print_line(info: Mapping[str, Any]) -> None:
    parts = [f"{info['macs_cut']:.2f}x fewer MACs"]
    if "speedup" in info:
        parts.append(f"{info['speedup']:.2f}x faster ({info['speedup_low']:.2f} to {info['speedup_high']:.2f})")
    for name, text in (
        ("speedup_fp32", "{:.2f}x against float32"), ("accuracy", "accuracy {:.2f} %"),
        ("accuracy_spoken", "spoken {:.2f} %"), ("agreement", "same {:.2f} %"),
        ("overhead", "overhead {:.2%}"), ("end_to_end_share", "{:.2f} of the model alone"),
        ("latency_median_ms", "median {:.1f} ms"), ("latency_p95_ms", "p95 {:.1f} ms"),
        ("peak_bytes", "peak {:,d} bytes"),
    ):  # fmt: skip
        if name in info:
            parts.append(text.format(info[name]))
    run = f"{info['model']} {info['method']} r={info['r']} b={info['batch']} {info['dtype']}"
    print(f"\n  {info['suite']}: {run}: {', '.join(parts)}", flush=True)


@lru_cache(maxsize=1)
def _environment() -> dict[str, str]:
    return environment()
