"""Forward and backward of one batch at half the MACs, against those of the unpatched model; no optimiser."""

from functools import partial

import torch
from candidates import build, step
from measure import BASELINE, CANDIDATE, REFERENCE, measure, record, speedups
from plan import COARSE, DTYPES, HALF, Plan, Runs

PLAN = Plan(
    quick=(Runs("ast_base-128", rates=(HALF,), batches=(4,)), Runs("ast_base-1024", rates=(HALF,))),
    full=(
        Runs("*", ("unpatched", "merged", "merged-unfused"), (HALF,), (8,)),
        Runs("*", ("random-drop", COARSE), (HALF,), (8,)),
    ),
)


def test_training_step(benchmark, run, settings):
    models = build(run, settings)
    x = run.case.inputs(run.batch, settings.device, DTYPES[run.dtype])
    target = torch.zeros(run.batch, dtype=torch.int64, device=settings.device)
    calls = {
        BASELINE: partial(step, models.baseline.train(), x, target),
        CANDIDATE: partial(step, models.candidate.train(), x, target),
    }
    if models.reference is not None:
        calls[REFERENCE] = partial(step, models.reference.train(), x.float(), target)
    try:
        seconds = measure(benchmark, calls, settings)
    finally:
        for model in models:  # the unpatched models serve other runs too
            if model is not None:
                model.eval().zero_grad(set_to_none=True)
    record(benchmark, "training_step", run, settings, models, **speedups(seconds))
