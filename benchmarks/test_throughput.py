"""How many times faster than the unpatched model, by batch size."""

import torch
from candidates import build
from measure import measure, model_calls, record, speedups
from plan import COARSE, DTYPES, FRONT, HALF, Plan, Runs

_PRUNING = ("merged-random", "topk-class", "random-drop")

PLAN = Plan(
    quick=(
        Runs("ast_base-128", batches=(4,)),
        Runs("ast_base-128", ("merged-unfused", *_PRUNING, COARSE), (HALF,), (4,)),
        Runs("ast_base-128", ("unpatched", "merged"), (HALF,), (4,), ("bfloat16",)),
        Runs("ast_base-1024", rates=(32, 94, FRONT)),
        Runs("ast_base-1024", rates=(0,), prefix_only=True),
        Runs("ast_base-1024", ("merged-unfused",), (94,)),
        Runs("kwt1", batches=(32,)),
    ),
    full=(
        Runs("*", ("unpatched", "merged", "merged-unfused"), batches=(1, 8, 32)),
        Runs("*", (*_PRUNING, COARSE), (HALF,), (1, 8, 32)),
        Runs("*", ("merged",), (0, FRONT), (8,)),
        Runs("*", ("merged",), (0,), (8,), prefix_only=True),
        Runs("*", ("merged",), (HALF,), (8,), prefix_only=False),
        Runs("*", ("unpatched", "merged", "merged-unfused"), (HALF,), (8,), ("bfloat16",)),
        Runs("ast_base-1024", ("merged", "merged-unfused"), batches=(4,)),
        Runs("ast_base-1024", ("merged",), (0, FRONT), (4,)),
        Runs("ast_base-1024", ("merged",), (0,), (4,), prefix_only=True),
        Runs("ast_base-1024", ("unpatched", "merged"), (HALF,), (4,), ("bfloat16",)),
        Runs("ast_base-128", ("merged", "merged-unfused"), batches=(16,)),
    ),
)


@torch.inference_mode()
def test_throughput(benchmark, run, settings):
    models = build(run, settings)
    x = run.case.inputs(run.batch, settings.device, DTYPES[run.dtype])
    seconds = measure(benchmark, model_calls(models, x), settings)
    record(benchmark, "throughput", run, settings, models, **speedups(seconds))
