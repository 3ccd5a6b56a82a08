"""What matching and merging take of one block's time. The block is the second one, whose tokens have sizes."""

from statistics import median

import pytest
import torch
from candidates import blocks_of, build, count_cost
from measure import CANDIDATE, measure, record
from plan import DTYPES, HALF, Plan, Runs

from tome_audio.merge import bipartite_match, merge_tokens, size_bias
from tome_audio.patch.registry import find_encoders

PLAN = Plan(
    quick=(
        Runs("ast_base-128", batches=(8,)),
        Runs("ast_base-1024"),
        Runs("ast_base-1024", rates=(HALF,), batches=(4,)),
        Runs("kwt1", batches=(32,)),
    ),
    full=(Runs("*", batches=(1, 8, 32)), Runs("*", rates=(HALF,), batches=(8,), dtypes=("bfloat16",))),
    methods=("merged",),
)
STAGES = ("attention", "matching", "merging", "feed_forward")


@torch.inference_mode()
def test_merge_overhead(benchmark, run, settings):
    models = build(run, settings)
    before, after = count_cost(run, models).tokens[1:3]
    if before == after:
        pytest.skip("the second block merges nothing")
    seconds = measure(benchmark, _calls(run, settings, models, before, before - after), settings, most=50)
    turns = list(zip(*(seconds[name] for name in STAGES), strict=True))
    record(
        benchmark, "merge_overhead", run, settings, models,
        overhead=median((turn[1] + turn[2]) / sum(turn) for turn in turns),
        stages={name: median(seconds[name]) for name in STAGES}, turns=len(turns), block_tokens=before,
    )  # fmt: skip


def _calls(run, settings, models, n_tokens, r):
    """Return the stages of the block, each on what the one before it gave, and matching with merging as one."""
    _, adapter = next(find_encoders(models.plain))
    block, n_prefix = list(blocks_of(models.plain).children())[1], run.case.n_prefix
    x = torch.randn(run.batch, n_tokens, run.case.width).to(settings.device, DTYPES[run.dtype])
    size = torch.randint(1, 3, x.shape[:2]).to(settings.device, torch.float32)
    taken = []
    handle = adapter.projection(block, "key").register_forward_hook(lambda module, args, output: taken.append(output))
    attended = adapter.attend(block, x, size_bias(size, x.dtype))
    handle.remove()

    def match():
        return bipartite_match(adapter.read_metric(block, "key", taken[0]), r, n_prefix=n_prefix)

    plan = match()
    merged, _ = merge_tokens(plan, attended, size)
    return {
        "attention": lambda: adapter.attend(block, x, size_bias(size, x.dtype)),
        "matching": match,
        "merging": lambda: merge_tokens(plan, attended, size),
        "feed_forward": lambda: adapter.feed_forward(block, merged),
        CANDIDATE: lambda: merge_tokens(match(), attended, size),
    }
