"""From waveforms to labels, features extracted on the model's device, and where the time goes."""

import torch
from candidates import blocks_of, build, logits
from measure import BASELINE, CANDIDATE, measure, record, speedups
from plan import COARSE, DTYPES, HALF, Plan, Runs

from tome_audio.profiling import Mark, ratio, stage_seconds, timed

PLAN = Plan(
    quick=(Runs("ast_base-128", ("unpatched", "merged"), (HALF,), (4,)), Runs("ast_base-1024 kwt1", rates=(HALF,))),
    full=(
        Runs("ast_* hf_ast-* kwt1", ("unpatched", "merged", "merged-unfused"), batches=(8,)),
        Runs("ast_*", (COARSE,), batches=(8,)),
    ),
)
STAGES = ("features", "patch_embedding", "blocks", "head")


@torch.inference_mode()
def test_end_to_end(benchmark, run, settings):
    models, dtype = build(run, settings), DTYPES[run.dtype]
    waveforms, features = run.case.waveforms(run.batch), run.case.features(settings.device)
    x = run.case.inputs(run.batch, settings.device, dtype)

    def prepare() -> torch.Tensor:
        return features(waveforms.to(settings.device)).to(dtype)

    def labels(model: torch.nn.Module) -> list[int]:
        return logits(model(prepare())).argmax(-1).tolist()

    calls = {
        BASELINE: lambda: labels(models.baseline),
        "model": lambda: models.candidate(x),
        CANDIDATE: lambda: labels(models.candidate),
    }
    seconds = measure(benchmark, calls, settings)
    turns = [_stages(models.plain, prepare) for _ in seconds[CANDIDATE][:9]]
    record(
        benchmark, "end_to_end", run, settings, models, **speedups(seconds),
        stages={name: sorted(turn[name] for turn in turns)[len(turns) // 2] for name in STAGES},
        end_to_end_share=ratio(seconds["model"], seconds[CANDIDATE]).median,
    )  # fmt: skip


def _stages(model: torch.nn.Module, prepare) -> dict[str, float]:
    """Time each stage of one call; the model's are those of the model as it is before compiling."""
    blocks = list(blocks_of(model).children())
    seconds = {"features": timed(prepare)}
    x = prepare()
    marks = [Mark("patch_embedding", blocks[0], "before"), Mark("blocks", blocks[-1], "after")]
    return seconds | stage_seconds(lambda: logits(model(x)).argmax(-1).tolist(), marks, last="head")
