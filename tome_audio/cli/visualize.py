"""`tome-audio visualize`: which parts of a clip became one token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tome_audio.audio import is_silent, read_audio
from tome_audio.cli.clip_view import SAMPLE_RATE, clip_view
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console, warn
from tome_audio.cli.rates import parse_rate, rate_name
from tome_audio.merge import Rate, Schedule
from tome_audio.patch import MergeReport, Trace, apply_patch, describe, set_r, trace
from tome_audio.viz.figure import picture_formats, save_figure
from tome_audio.viz.overlay import ClipView, plot_layers, plot_overlay

_LAYERS = "a block number, final, all, or before (after the rounds before the first block)"


@dataclass(frozen=True)
class MergedClip:
    """One clip, merged: what the model saw, and where each input token (N,) went, by layer.

    `layers` holds names and assignments after each block, first of all `before block 0` where tokens merged there.
    `output` (classes,) are the logits.
    """

    view: ClipView
    layers: list[tuple[str, Tensor]]
    report: MergeReport
    output: Tensor


def visualize(file: str, model: str, r: str = "0", layer: str = "final", out: str = "merged.png") -> int:
    """Draw which parts of a clip became one token.

    Args:
        file: Audio file (wav, flac, ogg, mp3; any rate, any number of channels).
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        r: Tokens merged per block: 16, or 45,20,12,6 for one number per block, (16,-1) for r and inflection,
            [49,24|6,4] for rounds before the first block and then the blocks, or 3x for three times fewer MACs.
        layer: After which block: its number (0 is the first), final, all (a small picture each), or before (after the
            rounds before the first block).
        out: Picture to write, .png or .svg; both if it has no ending. The folder is made if need be.
    """
    target, formats = picture_formats(out, "--out")
    rate, loaded = parse_rate(r), load_model(model)
    waveform = read_audio(file)
    if is_silent(waveform):
        warn(f"warning: {file}: every sample is zero; the picture shows what the model makes of silence")
    if loaded.prepare is not None and not loaded.trained:
        warn(f"warning: {loaded.name} has random weights: the picture shows its grid, not what a model would merge")
    merged = merge_clip(loaded, waveform, rate)
    figure = draw_merged(merged, layer, _title(loaded, merged, waveform, Path(file).name, rate))
    target.parent.mkdir(parents=True, exist_ok=True)
    written = save_figure(figure, target, formats)
    console().out(f"{', '.join(map(str, written))}: {_summary(merged)}")
    return 0


@torch.inference_mode()
def merge_clip(loaded: LoadedModel, waveform: Tensor, rate: Rate) -> MergedClip:
    """Run one clip (T samples at 16 kHz) through the model and keep what merged; the model stays patched with `rate`.

    Raises:
        ValueError: if the model does not take audio, or `rate` does not fit it.
    """
    view = clip_view(loaded, waveform)
    assert loaded.prepare is not None  # clip_view has seen it
    model = apply_patch(loaded.model, rate)
    features = loaded.prepare([waveform])
    done, output = _run(model, features)
    report = describe(model, done.n_tokens)
    layers = [(f"after block {index}", done.plan(index).assign[0]) for index in range(len(done.plans))]
    if any(report.before):
        # A trace begins after the first block: the rounds before it are run once more, alone.
        set_r(model, Schedule(before=report.before, before_matching=report.before_matching))
        layers.insert(0, ("before block 0", _run(model, features)[0].plan(0).assign[0]))
        set_r(model, rate)
    return MergedClip(view, layers, report, output)


def draw_merged(merged: MergedClip, layer: str, title: str) -> Figure:
    """Draw a clip after one layer (a block number, "final" or "before"), or in a small picture per layer ("all").

    Raises:
        ValueError: if there is no such layer.
    """
    if layer == "all":
        return plot_layers(merged.view, merged.layers, title=title)
    name, assign = merged.layers[_place(merged, layer)]
    return plot_overlay(merged.view, assign, title=f"{title}\n{name}")


def seconds_heard(view: ClipView) -> float:
    """Return how many seconds of a clip the model hears, from the start."""
    return view.grid.seconds(view.grid.n_frames) + view.grid.seconds(0)


def _place(merged: MergedClip, layer: str) -> int:
    first = int(any(merged.report.before))
    depth = len(merged.layers) - first
    if layer == "final":
        return len(merged.layers) - 1
    if layer == "before":
        if not first:
            raise ValueError("--layer before: nothing merges before the first block with this r; see --r '[49|6,4]'")
        return 0
    if not layer.isdecimal() or int(layer) >= depth:
        raise ValueError(f"--layer {layer!r} is not a layer of this model: give {_LAYERS}; blocks are 0 to {depth - 1}")
    return first + int(layer)


def _run(model: torch.nn.Module, features: Tensor) -> tuple[Trace, Tensor]:
    with trace(model) as traces:
        output = model(features)
    return traces[0], getattr(output, "logits", output)[0]


def _title(loaded: LoadedModel, merged: MergedClip, waveform: Tensor, name: str, rate: Rate) -> str:
    parts = [name]
    if loaded.labels is not None and loaded.trained:
        parts.append(f"heard as {loaded.labels[int(merged.output.argmax())]}")
    seen, seconds = seconds_heard(merged.view), len(waveform) / SAMPLE_RATE
    if seconds > seen + merged.view.grid.hop_seconds:
        parts.append(f"the first {seen:.2f} s of {seconds:.2f} s")
    parts.append(f"r = {rate_name(rate)}: {merged.report.macs_cut:.2f} times fewer MACs")
    return ", ".join(parts)


def _summary(merged: MergedClip) -> str:
    grid = merged.view.grid
    counts = merged.layers[-1][1][grid.n_prefix :].unique(return_counts=True)[1]
    before = f", {sum(merged.report.before)} of them before the first block" if any(merged.report.before) else ""
    n_patches = int(counts.sum())
    return (
        f"{n_patches} {grid.units}, {n_patches - len(counts)} merged away{before}, {len(counts)} tokens left; "
        f"the largest stands for {int(counts.max())}; {merged.report.macs_cut:.2f} times fewer multiply-accumulates"
    )
