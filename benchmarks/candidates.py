"""The models of one run: the unpatched baseline, the candidate, and the float32 model where both are coarser."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from cases import CASES, Case
from plan import COARSE, DTYPES, Run, Settings
from rivals import METHODS, tokens_and_macs
from torch import Tensor, nn

from tome_audio.patch import apply_patch, describe, is_patched
from tome_audio.patch.registry import find_encoders


class Models(NamedTuple):
    """What is timed in one run, in eval mode, and where tokens and MACs of the candidate are read.

    `reference` is the unpatched float32 model where the run is in another dtype. `plain` is the candidate before
    compiling.
    """

    baseline: nn.Module
    candidate: nn.Module
    reference: nn.Module | None
    plain: nn.Module


class Cost(NamedTuple):
    """N entering each block and, last, N leaving; MACs of all blocks for one clip; the cut against the baseline.

    `prefix_only` tells whether the last block computes the prefix tokens alone.
    """

    tokens: list[int]
    macs: int
    macs_cut: float
    prefix_only: bool


@torch.inference_mode(False)  # weights made in inference mode could not be trained
def build(run: Run, settings: Settings) -> Models:
    """Build the models of a run on the device; compiled, if that is asked for."""
    dtype = DTYPES[run.dtype]
    baseline = _unpatched(run.case, settings.device, dtype)
    if run.method == COARSE:
        plain = _unpatched(CASES[run.case.coarse or ""], settings.device, dtype)
    else:
        plain = METHODS[run.method](baseline, run.rate)
        if run.prefix_only is not None:
            apply_patch(plain, run.rate, prefix_only=run.prefix_only)
    reference = None if dtype == torch.float32 else _unpatched(run.case, settings.device, torch.float32)
    if not settings.compiled:
        return Models(baseline, plain, reference, plain)
    # Compiled code is kept per function, not per model: without a reset the models of earlier runs count as recompiles.
    torch._dynamo.reset()
    compiled: Any = [None if model is None else torch.compile(model) for model in (baseline, plain, reference)]
    return Models(*compiled, plain)


def count_cost(run: Run, models: Models, n_tokens: int | None = None) -> Cost:
    """Return tokens and MACs of the candidate, for N = `n_tokens` or the case's own."""
    start = run.case.n_tokens if n_tokens is None else n_tokens
    baseline, prefix_only = _unwrapped(models.baseline), False
    if is_patched(models.plain):
        report = describe(models.plain, start)
        tokens, macs, prefix_only = report.tokens, sum(report.macs), report.prefix_only
    elif run.method == COARSE:
        tokens, macs = tokens_and_macs("unpatched", models.plain, 0, CASES[run.case.coarse or ""].n_tokens)
    else:
        tokens, macs = tokens_and_macs(run.method, baseline, run.rate, start)
    _, whole = tokens_and_macs("unpatched", baseline, 0, start)
    return Cost(list(tokens), macs, whole / macs, prefix_only)


def blocks_of(model: nn.Module) -> Any:
    """Return the block list of the model's encoder."""
    encoder, adapter = next(find_encoders(model))
    return getattr(encoder, adapter.blocks)


def logits(output: Any) -> Tensor:
    """Return the logits (B, K): Hugging Face models wrap them in an object."""
    return getattr(output, "logits", output)


def step(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Do a forward and a backward pass of cross entropy, and nothing else."""
    model.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(logits(model(x)).float(), target).backward()


def _unwrapped(model: Any) -> nn.Module:
    return getattr(model, "_orig_mod", model)


@lru_cache(maxsize=3)
def _unpatched(case: Case, device: torch.device, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = case.build().eval()
    return copy.deepcopy(model).to(device, dtype)
