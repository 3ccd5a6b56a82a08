"""`tome-audio inspect`: tokens and MACs per layer, and whether one clip at a time gains from them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from rich.table import Table

from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console
from tome_audio.cli.rates import parse_rate, rate_name
from tome_audio.patch import MergeReport, apply_patch, describe, trace
from tome_audio.profiling import Ratio, interleaved_for, ratio

_SECONDS = 4.0


def inspect(model: str, r: str = "0", time: bool = True) -> int:
    """Show tokens and multiply-accumulates per layer for a model and an r, and the speed of one clip at a time.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), a Hugging Face AST, ast-base384, or a timm name.
        r: Tokens merged per block: 16, or 45,20,12,6 for one number per block, (16,-1) for r and inflection,
            [49,24|6,4] with rounds before the first block, or 3x for three times fewer multiply-accumulates.
        time: Time one clip against the unpatched model on this machine (some seconds); false leaves it out.
    """
    loaded, rate = load_model(model), parse_rate(r)
    merged = apply_patch(copy.deepcopy(loaded.model), rate)
    report = describe(merged, count_tokens(loaded))
    console().print(_table(loaded.name, rate_name(rate), report))
    if report.is_clamped:
        entering = report.tokens[0] + sum(report.before)
        console().print(f"r = {rate_name(rate)} is more than {entering} tokens allow: the layers marked * merge less.")
    if time and (any(report.before) or any(report.merged)):
        console().print(_verdict(time_one_clip(loaded, merged)))
    return 0


@torch.inference_mode()
def time_one_clip(loaded: LoadedModel, merged: Any) -> Ratio:
    """Return how many times faster than the unpatched model one clip of noise goes through `merged`, in turns."""
    x = torch.randn(1, *loaded.input_shape, generator=torch.Generator().manual_seed(0))
    seconds = interleaved_for({"unpatched": lambda: loaded.model(x), "merged": lambda: merged(x)}, seconds=_SECONDS)
    return ratio(seconds["unpatched"], seconds["merged"])


def _verdict(speedup: Ratio) -> str:
    found = (
        f"One clip at a time, {torch.get_num_threads()} threads: {speedup.median:.2f} times as fast as unpatched "
        f"(quartiles {speedup.low:.2f} to {speedup.high:.2f})."
    )
    if speedup.median >= 1:
        return found
    return (
        f"{found} The model is too small to gain here: what a merge takes is more than it saves. Merge much in few "
        "blocks (one number per block, the first ones large), run larger batches, or use torch.compile."
    )


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
    entering = report.tokens[0] + sum(report.before)
    for r in report.before:
        table.add_row("before", str(entering), str(r), str(entering - r), "", "")
        entering -= r
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
    table.add_row("all", "", str(sum(report.before) + sum(report.merged)), "", f"{total:,.1f}", f"{unmerged:,.1f}")
    table.caption = f"{report.macs_cut:.2f} times fewer multiply-accumulates in the blocks"
    return table
