"""Time against tokens: random tokens through the blocks alone, at half the MACs for each length.

Every block computes every token: without the model around them nobody knows that a head would read the prefix alone.
"""

from dataclasses import replace

import torch
from candidates import blocks_of, build, count_cost
from measure import BASELINE, CANDIDATE, measure, record, speedups
from plan import DTYPES, HALF, Plan, Runs

LENGTHS, LONG = (146, 256, 514, 1214), (2400, 5000)
_BOTH = ("unpatched", "merged")

PLAN = Plan(
    quick=(Runs("ast_base-1024", _BOTH, (HALF,)),),
    full=(Runs("ast_base-1024 ast_small-1024 ast_tiny-test", _BOTH, (HALF,)),),
    methods=_BOTH,
    takes_r=False,
)


def pytest_generate_tests(metafunc):
    metafunc.parametrize("n_tokens", (*LENGTHS, *LONG) if metafunc.config.getoption("--full") else LENGTHS)


@torch.inference_mode()
def test_scaling(benchmark, run, settings, n_tokens):
    if run.method == "merged":
        run = replace(run, rate=run.case.half(n_tokens), prefix_only=False)
    models = build(run, settings)
    x = torch.randn(run.batch, n_tokens, run.case.width, generator=torch.Generator().manual_seed(1))
    x = x.to(settings.device, DTYPES[run.dtype])
    calls = {CANDIDATE: _blocks(models.plain, x, settings)}
    if run.method == "merged":  # the other is here for its seconds, not for its ratio to itself
        calls[BASELINE] = _blocks(getattr(models.baseline, "_orig_mod", models.baseline), x, settings)
    seconds = measure(benchmark, calls, settings)
    record(
        benchmark, "scaling", run, settings, models, **count_cost(run, models, n_tokens)._asdict(),
        **(speedups(seconds) if BASELINE in seconds else {}),
    )  # fmt: skip


def _blocks(model, x, settings):
    """Return a call of all blocks on the tokens, compiled if that is asked for."""

    def run_blocks():
        tokens = x
        for block in blocks_of(model):
            tokens = block(tokens)
        return tokens

    return torch.compile(run_blocks) if settings.compiled else run_blocks
