"""Similarity thresholds beside fixed schedules at the same mean MACs: CSV, JSON and figure.

    python benchmarks/adaptive.py kwt1

Every threshold is scored with clips one at a time, where each merges its own amounts, and in batches, where a quantile
of the clips decides. A fixed schedule of each shape stands beside it, at the mean MACs of the threshold. Clips and
model are those of the frontier of that name (`frontier_subjects.py`); needs the real data (`TOME_AUDIO_DATA`).
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from frontier import compare
from frontier_subjects import read_clips, subject_of
from torch import Tensor, nn

from tome_audio.cli.loading import load_model
from tome_audio.merge import SHAPES, ComputeTarget, Rate, SimilarityThreshold, encoder_macs
from tome_audio.patch import apply_patch, trace
from tome_audio.patch.model import merged_blocks
from tome_audio.profiling import environment
from tome_audio.viz.figure import save_figure
from tome_audio.viz.frontier import FrontierPoint, plot_frontier

RESULTS = Path(__file__).parent / "results"
IN_BLOCKS, BEFORE, BOTH = "threshold in blocks", "threshold before block 0", "thresholds in both"
THRESHOLDS = {
    IN_BLOCKS: [SimilarityThreshold(t) for t in (0.9998, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9)],
    BEFORE: [SimilarityThreshold((), before=(t,) * 3) for t in (0.9, 0.8, 0.7, 0.6, 0.5, 0.3)],
    BOTH: [
        SimilarityThreshold(blocks, before=(before,) * 3)
        for before, blocks in ((0.9, 0.999), (0.8, 0.999), (0.7, 0.998), (0.6, 0.998), (0.5, 0.995), (0.4, 0.99))
    ],
}
BATCHES = (1, 32)


@torch.inference_mode()
def answers(model: nn.Module, inputs: Tensor, batch: int) -> tuple[Tensor, float]:
    """Return the top label of each clip (n,), and how many times fewer MACs the blocks took, over all clips."""
    blocks = merged_blocks(model)[0]
    labels, spent, whole = [], 0, 0
    for part in inputs.split(batch):
        with trace(model) as traces:
            labels.append(model(part).argmax(-1))
        queries = blocks.queries_of_last(reading=blocks.reads_prefix)
        spent += len(part) * encoder_macs(blocks.costs, traces[0].tokens, last_queries=queries)
        whole += len(part) * encoder_macs(blocks.costs, [traces[0].n_tokens] * (len(blocks.costs) + 1))
    return torch.cat(labels), whole / spent


def rows_of(model: nn.Module, inputs: Tensor, target: Tensor) -> pd.DataFrame:
    """Return one row per threshold, batch size and shape beside it."""
    merged = apply_patch(copy.deepcopy(model))
    base, _ = answers(merged, inputs, 128)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))  # batches of mixed classes
    inputs, target, base = inputs[order], target[order], base[order]
    rows, shapes = [], {}

    def add(family: str, batch: int, name: str, rate: Rate) -> float:
        merged.r = rate
        own, cut = answers(merged, inputs, batch)
        rows.append(
            {"family": family, "batch": batch, "r": name, "macs_cut": round(cut, 3), **compare(base, own, target)}
        )
        print(*rows[-1].values(), flush=True)
        return cut

    for family, thresholds in THRESHOLDS.items():
        for rate in thresholds:
            for batch in BATCHES:
                cut = add(family, batch, str(rate), rate)
                shapes[round(cut, 1)] = cut
    for wanted in sorted(shapes):
        for shape in SHAPES:
            try:
                add(shape, BATCHES[-1], f"{wanted:g}x:{shape}", ComputeTarget(max(1.0, wanted), shape))
            except ValueError:  # out of reach of this shape
                continue
    return pd.DataFrame(rows)


def main(words: Sequence[str] | None = None) -> None:
    """Score the model named on the command line."""
    parser = argparse.ArgumentParser(description="Similarity thresholds beside fixed schedules.")
    parser.add_argument("name", help="kwt1, or another model of the frontiers")
    given = parser.parse_args(words)
    path = RESULTS / f"adaptive-{given.name}-torch2.11-cpu.csv"
    _, subject = subject_of(RESULTS / f"frontier-{given.name}-torch2.11-cpu.csv")
    loaded = load_model(str(subject.model))
    clips = read_clips(subject, loaded)
    table = rows_of(loaded.model, clips.inputs, clips.target)
    table.to_csv(path, index=False)
    record = {"command": f"python benchmarks/adaptive.py {given.name}", "environment": environment()}
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    points = [
        FrontierPoint(
            f"{row.family}, {'one clip at a time' if row.batch == 1 else f'batches of {row.batch}'}"
            if row.family in THRESHOLDS
            else row.family,
            row.macs_cut,
            row.agreement,
            None,
            None,
        )
        for row in table.sort_values("macs_cut").itertuples()
    ]
    title = subject.title.format(len(clips.target))
    figure = plot_frontier(points, title, measure="same top label as unmerged (%)", unmerged=100.0, close_up=8.0)
    save_figure(figure, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
