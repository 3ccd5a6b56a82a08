"""Milliseconds of one clip at batch 1, median and 95th percentile, beside those of the unpatched model."""

import torch
from candidates import build
from measure import BASELINE, CANDIDATE, measure, model_calls, record, speedups
from plan import COARSE, DTYPES, HALF, Plan, Runs

from tome_audio.profiling import latency

PLAN = Plan(
    quick=(Runs("ast_base-128 kwt1"), Runs("ast_base-128 kwt1", ("merged-unfused",), (HALF,))),
    full=(Runs("*", ("unpatched", "merged", "merged-unfused", "topk-class", COARSE)),),
    takes_batch=False,
)


@torch.inference_mode()
def test_latency(benchmark, run, settings):
    models = build(run, settings)
    x = run.case.inputs(1, settings.device, DTYPES[run.dtype])
    seconds = measure(benchmark, model_calls(models, x), settings, most=200)
    own, base = latency(seconds[CANDIDATE]), latency(seconds[BASELINE])
    record(
        benchmark, "latency", run, settings, models, **speedups(seconds),
        latency_median_ms=own.median_ms, latency_p95_ms=own.p95_ms,
        baseline_median_ms=base.median_ms, baseline_p95_ms=base.p95_ms,
    )  # fmt: skip
