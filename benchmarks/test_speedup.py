"""Speed of a patched AST against the unpatched one with its fused attention: interleaved turns, medians, quartiles.

Run with `make bench`; the pytest-benchmark report `runs/bench.json` holds tokens, MACs and the ratio in `extra_info`.
"""

import copy

import pytest
import torch

from tome_audio.models import AST
from tome_audio.patch import apply_patch, describe
from tome_audio.profiling import environment, interleaved, ratio

N_FRAMES, BATCH, TURNS = 1024, 2, 7


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    unpatched = AST("base384", n_frames=N_FRAMES).eval()
    return unpatched, apply_patch(copy.deepcopy(unpatched))


@pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")  # r = 94, in the last block
@pytest.mark.parametrize("r", [0, 32, 64, 80, 94])
def test_ast_base(benchmark, models, r):
    unpatched, merged = models
    merged.r = r
    x = torch.randn(BATCH, N_FRAMES, 128)
    with torch.inference_mode():
        seconds = interleaved({"unpatched": lambda: unpatched(x), "merged": lambda: merged(x)}, turns=TURNS)
        benchmark.pedantic(merged, args=(x,), rounds=1)
    report = describe(merged, unpatched.n_tokens)
    speedup = ratio(seconds["unpatched"], seconds["merged"])
    benchmark.extra_info.update(
        r=r, batch=BATCH, dtype="float32", tokens=report.tokens, macs=sum(report.macs), macs_cut=report.macs_cut,
        speedup=speedup.median, speedup_low=speedup.low, speedup_high=speedup.high, **environment(),
    )  # fmt: skip
    quartiles = f"{speedup.low:.2f} to {speedup.high:.2f}"
    print(f"\nr={r}: {report.macs_cut:.2f}x fewer MACs, {speedup.median:.2f}x faster ({quartiles})")
