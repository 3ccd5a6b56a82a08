"""The most bytes held at once, weights and inputs not counted, of a forward pass and of a training step.

On a GPU its allocator is asked, on a CPU every allocation of PyTorch is traced (see `tome_audio.profiling.peak_bytes`).
"""

import torch
from candidates import build, step
from measure import record
from plan import COARSE, DTYPES, HALF, Plan, Runs

from tome_audio.profiling import peak_bytes

PLAN = Plan(
    quick=(Runs("ast_base-128", ("merged", "merged-unfused"), (HALF,), (2,)), Runs("kwt1", batches=(32,))),
    full=(Runs("*", ("merged", "merged-unfused", "random-drop", COARSE), (HALF,), (8,)),),
)


def test_memory(benchmark, run, settings):
    models = build(run, settings)
    x = run.case.inputs(run.batch, settings.device, DTYPES[run.dtype])
    base, own = _peak(models.baseline, x), benchmark.pedantic(_peak, (models.candidate, x), rounds=1)
    record(
        benchmark, "memory", run, settings, models, peak_bytes=own, baseline_peak_bytes=base,
        training_peak_bytes=_peak(models.candidate, x, training=True),
        baseline_training_peak_bytes=_peak(models.baseline, x, training=True),
    )  # fmt: skip


def _peak(model, x, training=False) -> int:
    target = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    def call() -> None:
        if training:
            step(model, x, target)
        else:
            with torch.inference_mode():
                model(x)

    try:
        model.train(training)
        if not training:  # the very first call also allocates what stays
            call()
        return peak_bytes(call, x.device)
    finally:
        model.eval().zero_grad(set_to_none=True)
