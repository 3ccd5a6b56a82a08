"""Score the schedules of a frontier table again, on speakers kept apart: CSV, JSON and figure.

    python benchmarks/frontier.py benchmarks/results/frontier-kwt1-torch2.11-cpu.csv

Reads family, seed, target and r of each row and measures the rest: KWT-1 on the spoken clips of the `valid` and `test`
speakers of `speech_commands/split.csv`. Needs the real data (`TOME_AUDIO_DATA`).
"""

import copy
import csv
import json
import sys
from pathlib import Path

import pandas as pd
import torch
from cases import DATA, KWT_WEIGHTS

from tome_audio.cli.loading import load_model
from tome_audio.cli.rates import parse_rates
from tome_audio.data.clips import find_clips, load_waveforms
from tome_audio.patch import apply_patch, describe
from tome_audio.profiling import environment
from tome_audio.viz.figure import save_figure
from tome_audio.viz.frontier import FrontierPoint, plot_frontier

N_TOKENS, TITLE = 99, "KWT-1, {} spoken clips of speakers kept apart; fitted: three seeds, lowest to highest"


def read_clips(loaded):
    """Return inputs (n, 98, 40) and class indices (n,) of the spoken clips of valid and test speakers."""
    folder, names = DATA / "speech_commands", loaded.need_labels()
    with (folder / "split.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] in ("valid", "test")]
    wanted = {(folder / row["file"]).resolve() for row in rows if row["label"] != "_silence_"}
    read = load_waveforms([clip for clip in find_clips(str(folder)) if Path(clip.path).resolve() in wanted])
    target = torch.tensor([names.index(clip.label) for clip in read.clips])
    starts = range(0, len(target), 64)
    return torch.cat([loaded.prepare(read.waveforms[start : start + 64]) for start in starts]), target


@torch.inference_mode()
def top_labels(model, inputs):
    return torch.cat([model(part).argmax(-1) for part in inputs.split(128)])


def main(path):
    table = pd.read_csv(path)
    loaded = load_model(str(DATA / KWT_WEIGHTS))
    inputs, target = read_clips(loaded)
    base, merged = top_labels(loaded.model, inputs), apply_patch(copy.deepcopy(loaded.model))
    for i, row in table.iterrows():
        (merged.r,) = parse_rates(row["r"])
        own = top_labels(merged, inputs)
        lost = 100 * ((base == target).double() - (own == target).double())
        table.loc[i, "macs_cut"] = round(describe(merged, N_TOKENS).macs_cut, 3)
        table.loc[i, "points_lost"] = round(lost.mean().item(), 3)
        table.loc[i, "standard_error"] = round(lost.std().item() / len(lost) ** 0.5, 3)
        table.loc[i, "agreement"] = round(100 * (own == base).double().mean().item(), 2)
        table.loc[i, "n_clips"] = len(own)
    table["seed"] = table["seed"].astype("Int64")
    table.to_csv(path, index=False)
    facts = {"unmerged_accuracy": 100 * (base == target).double().mean().item(), "environment": environment()}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    points = []
    for (family, _), rows in table.groupby(["family", "target"]):
        score, several = rows["agreement"].mean(), len(rows) > 1
        low, high = (rows["agreement"].min(), rows["agreement"].max()) if several else (None, None)
        score = score if low is None else min(max(score, low), high)  # a mean may round past what it is the mean of
        points.append(FrontierPoint(family, rows["macs_cut"].mean(), score, low, high))
    figure = plot_frontier(
        points, TITLE.format(len(target)), measure="same top label as unmerged (%)", unmerged=100.0, close_up=8.0
    )
    save_figure(figure, path.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
