"""`tome-audio inspect`: tokens and MACs per layer."""

from __future__ import annotations

import copy

import torch
from rich.table import Table

from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console
from tome_audio.cli.rates import parse_rate, rate_name
from tome_audio.patch import MergeReport, apply_patch, describe, trace


def inspect(model: str, r: str = "0") -> int:
    """Show tokens and multiply-accumulates per layer for a model and an r.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), a Hugging Face AST, ast-base384, or a timm name.
        r: Tokens merged per block: 16, or 45,20,12,6 for one number per block, or (16,-1) for r and inflection.
    """
    loaded, rate = load_model(model), parse_rate(r)
    report = describe(apply_patch(loaded.model, rate), count_tokens(loaded))
    console().print(_table(loaded.name, rate_name(rate), report))
    if report.is_clamped:
        console().print(
            f"r = {rate_name(rate)} is more than {report.tokens[0]} tokens allow: the layers marked * merge less."
        )
    return 0


def count_tokens(loaded: LoadedModel) -> int:
    """Return N, the tokens that enter the first block for one clip; nothing is computed."""
    model = apply_patch(copy.deepcopy(loaded.model).to("meta"))
    with trace(model) as traces, torch.no_grad():
        model(torch.empty(1, *loaded.input_shape, device="meta"))
    return traces[0].tokens[0]


def _table(name: str, rate: str, report: MergeReport) -> Table:
    table = Table(title=f"{name}, r = {rate}", title_justify="left")
    for column in ("block", "tokens in", "merged", "tokens out", "MMACs", "unmerged MMACs"):
        table.add_column(column, justify="right")
    for layer, (wanted, done) in enumerate(zip(report.wanted, report.merged, strict=True)):
        table.add_row(
            str(layer),
            str(report.tokens[layer]),
            f"{done}{'*' if done < wanted else ''}",
            str(report.tokens[layer + 1]),
            f"{report.macs[layer] / 1e6:,.1f}",
            f"{report.macs_unmerged[layer] / 1e6:,.1f}",
        )
    table.add_section()
    total, unmerged = sum(report.macs) / 1e6, sum(report.macs_unmerged) / 1e6
    table.add_row("all", "", str(sum(report.merged)), "", f"{total:,.1f}", f"{unmerged:,.1f}")
    table.caption = f"{report.macs_cut:.2f} times fewer multiply-accumulates in the blocks"
    return table
