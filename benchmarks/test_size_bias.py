"""How attention should learn the sizes of merged tokens: as an additive mask, or as one more column of the keys.

log(size) is a bias of rank one, so q <- [q, 1] and k <- [k, log(size) / scale] give the same scores without a mask,
which keeps kernels that take none. Both are timed against attention without sizes; the column includes making it.
"""

import pytest
import torch
import torch.nn.functional as F
from candidates import build
from measure import BASELINE, CANDIDATE, measure, record, speedups
from plan import DTYPES, Plan, Runs

from tome_audio.merge import size_bias

_DTYPES = ("float32", "bfloat16")
HEAD, PADDED = 64, 72  # a multiple of 8, as fused kernels want it

PLAN = Plan(
    quick=(
        Runs("ast_base-128", ("unpatched",), batches=(8,), dtypes=_DTYPES),
        Runs("ast_base-1024", ("unpatched",), dtypes=_DTYPES),
    ),
    full=(
        Runs("ast_base-* kwt1", ("unpatched",), batches=(1, 8, 32), dtypes=_DTYPES),
        Runs("ast_tiny-test", ("unpatched",)),
    ),
    methods=("unpatched",),
    takes_r=False,
    takes_methods=False,
)


@pytest.mark.parametrize("variant", ["mask", "column"])
@torch.inference_mode()
def test_size_bias(benchmark, run, settings, variant):
    n_tokens, heads = run.case.n_tokens, max(1, run.case.width // HEAD)
    packed = torch.randn(run.batch, n_tokens, 3, heads, HEAD).to(settings.device, DTYPES[run.dtype])
    query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
    size = torch.randint(1, 4, (run.batch, n_tokens)).to(settings.device, torch.float32)
    ways = {
        "none": lambda: F.scaled_dot_product_attention(query, key, value),
        "mask": lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=size_bias(size, query.dtype)),
        "column": lambda: _with_column(query, key, value, size),
    }
    tolerance = 1e-4 if run.dtype == "float32" else 5e-2
    torch.testing.assert_close(ways["column"](), ways["mask"](), rtol=tolerance, atol=tolerance)
    seconds = measure(benchmark, {BASELINE: ways["none"], CANDIDATE: ways[variant]}, settings, most=200)
    record(
        benchmark, "size_bias", run, settings, build(run, settings), method=f"size-{variant}", **speedups(seconds)
    )  # fmt: skip


def _with_column(query, key, value, size):
    """Attend with log(size) as a column of the keys: q, k, v (B, H, N, 64) -> (B, H, N, 64)."""
    scale = HEAD**-0.5
    column = (size.log() / scale).to(key.dtype)[:, None, :, None].expand(-1, key.shape[1], -1, -1)
    ones = torch.ones_like(column)
    rest = PADDED - HEAD - 1
    query = F.pad(torch.cat((query, ones), dim=-1), (0, rest))
    key = F.pad(torch.cat((key, column), dim=-1), (0, rest))
    attended = F.scaled_dot_product_attention(query, key, F.pad(value, (0, rest + 1)), scale=scale)
    return attended[..., :HEAD]
