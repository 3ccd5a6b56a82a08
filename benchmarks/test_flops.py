"""Multiply-accumulates counted three ways, which must agree: by formula, by PyTorch's counter, and by fvcore.

The formula counts the blocks; patch embedding, head and matching are added to it here, each by a formula of its own.
fvcore and PyTorch's counter both miss fused attention unless told: one is given a handle, the other counts attention as
plain products.
"""

import math
from typing import Any

import torch
from candidates import blocks_of, build, count_cost, logits
from fvcore.nn import FlopCountAnalysis
from measure import record
from plan import FRONT, HALF, Plan, Runs
from torch import nn

from tome_audio.patch.registry import find_encoders
from tome_audio.profiling import count_macs

_PRODUCTS = ("linear", "addmm", "matmul", "bmm", "einsum", "conv", "scaled_dot_product_attention")

PLAN = Plan(
    quick=(
        Runs("ast_base-128 kwt1", ("unpatched", "merged", "random-drop"), (HALF,)),
        Runs("ast_base-1024", rates=(94, FRONT)),
    ),
    full=(Runs("*", ("unpatched", "merged", "merged-unfused", "merged-random", "random-drop")),),
    methods=("unpatched", "merged", "merged-unfused", "merged-random", "random-drop"),
    takes_batch=False,
)


@torch.no_grad()
def test_flops(benchmark, run, settings):
    models = build(run, settings)
    model = models.plain.to("cpu", torch.float32).requires_grad_(False)
    x = run.case.inputs(1, torch.device("cpu"), torch.float32)
    cost = count_cost(run, models)
    by_counter = count_macs(model, x)
    by_fvcore = benchmark.pedantic(_count_by_fvcore, (model, x), rounds=1)
    assert by_fvcore == by_counter
    outside = _embedding_and_head(run.case, model)
    matching = _matching(run, model, cost.tokens)
    assert by_counter == cost.macs + outside + matching
    record(
        benchmark, "flops", run, settings, models,
        macs_fvcore=by_fvcore, macs_counter=by_counter, macs_outside_blocks=outside, macs_matching=matching,
    )  # fmt: skip


class _Opaque(nn.Module):
    """Hides the parts of a model, on which fvcore would put hooks: hooked attention computes every token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.call = lambda x: logits(model(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


def _count_by_fvcore(model: nn.Module, x: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(_Opaque(model), x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none").set_op_handle("aten::scaled_dot_product_attention", _attention)
    return int(sum(count for name, count in analysis.by_operator().items() if name in _PRODUCTS))


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Count both products of fused attention from the shapes of q (..., N, D), k (..., M, D) and v (..., M, E)."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _embedding_and_head(case: Any, model: nn.Module) -> int:
    """Count what one clip costs outside the blocks: the embedding of its patches and one row through the head."""
    inside = {id(module) for block in blocks_of(model).children() for module in block.modules()}
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and id(m) not in inside]
    assert len(layers) == 2, f"{case.name}: expected an embedding and a head outside the blocks, found {layers}"
    embedding, head = (layer.weight.numel() for layer in layers)
    return embedding * (case.n_tokens - case.n_prefix) + head


def _matching(run: Any, model: nn.Module, tokens: list[int]) -> int:
    """Count the similarities of the two halves of the patches, wherever a block of a merging model merges."""
    if run.method not in ("merged", "merged-unfused"):
        return 0
    _, adapter = next(find_encoders(model))
    macs = 0
    for block, before, after in zip(blocks_of(model).children(), tokens, tokens[1:], strict=False):
        projected = torch.empty(1, 1, adapter.projection(block, "key").out_features)
        patches = before - run.case.n_prefix
        width = adapter.read_metric(block, "key", projected).shape[-1]
        macs += (patches - patches // 2) * (patches // 2) * width if after < before else 0
    return macs
