"""Score the schedules of a frontier table on clips that took no part in fitting: CSV, JSON and figure.

    python benchmarks/frontier.py benchmarks/results/frontier-kwt1-torch2.11-cpu.csv
    python benchmarks/frontier.py benchmarks/results/frontier-kwt1-torch2.11-cpu.csv --schedules runs/fit-0 runs/fit-1

The name of the file says which model it is about (`frontier_subjects.py`). The families that need no data are worked
out each time, as far as they reach; the fitted rows are those of the table, or with `--schedules` those of the JSON
files in these folders. Every row is scored against the unmerged model on the same clips. Needs the real data
(`TOME_AUDIO_DATA`), and for the models trained here `train_small.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from frontier_rows import FITTED, Row, build, data_free_rows, fitted_rows, macs_cut
from frontier_subjects import Clips, read_clips, subject_of
from torch import Tensor, nn

from tome_audio.cli.inspect import count_tokens
from tome_audio.cli.loading import load_model
from tome_audio.cli.rates import parse_rate
from tome_audio.profiling import environment
from tome_audio.search.divergence import divergence
from tome_audio.viz.figure import save_figure
from tome_audio.viz.frontier import FrontierPoint, plot_frontier

_Z = 1.959964  # of a 95 % interval
_OPTIONS = {
    "interval": "95 %, adjusted Wald for paired proportions (Bonett and Price, 2012)",
    "divergence": "of the answers from those of the unmerged model: Kullback-Leibler, mean over clips, in nats",
    "rivals": "random merging, pruning by class attention and random dropping take the mildest front-loaded list for "
    "the blocks alone that reaches the target: the same share of the patches in each of the first four blocks, half "
    "at most, and in more blocks where that is not enough",
}


def compare(base: Tensor, own: Tensor, target: Tensor) -> dict[str, float]:
    """Return what labels (n,) lose against those of the unmerged model, in points, paired over the clips.

    The interval is that of Bonett and Price (2012) for paired proportions, which stays honest where few clips differ.
    """
    n_clips, before, after = len(target), base == target, own == target
    lost = 100 * (before.double() - after.double())
    worse, better = int((before & ~after).sum()), int((after & ~before).sum())
    p_worse, p_better = ((count + 1) / (n_clips + 2) for count in (worse, better))
    middle = p_worse - p_better
    half = _Z * ((p_worse + p_better - middle**2) / (n_clips + 2)) ** 0.5
    return {
        "points_lost": round(lost.mean().item(), 3),
        "standard_error": round(lost.std().item() / n_clips**0.5, 3),
        "lost_low": round(100 * (middle - half), 3),
        "lost_high": round(100 * (middle + half), 3),
        "agreement": round(100 * (own == base).double().mean().item(), 2),
        "n_clips": n_clips,
    }


def score_rows(model: nn.Module, rows: Sequence[Row], clips: Clips, n_tokens: int) -> tuple[pd.DataFrame, float]:
    """Return the table of the rows with what they cost, and the accuracy of the unmerged model in percent."""
    base = _logits(model, clips.inputs)
    label = base.argmax(-1)
    scored = []
    for row in rows:
        rate = parse_rate(row.r)
        own = _logits(build(model, row.family, rate, row.seed), clips.inputs)
        facts = {"target": f"{row.target:g}", "macs_cut": round(macs_cut(model, row.family, rate, n_tokens), 3)}
        far = {"divergence": float(f"{divergence(base, own).mean().item():.4g}")}
        scored.append({**row._asdict(), **facts, **compare(label, own.argmax(-1), clips.target), **far})
        print(*scored[-1].values(), flush=True)
    table = pd.DataFrame(scored)
    table["seed"] = table["seed"].astype("Int64")
    return table, 100 * (label == clips.target).double().mean().item()


@torch.inference_mode()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([model(part) for part in inputs.split(128)])


def table_rows(path: Path) -> list[Row]:
    """Return the fitted rows of a table, none where it does not exist yet."""
    if not path.exists():
        return []
    table = pd.read_csv(path)
    fitted = table[table["family"] == FITTED]
    return [Row(FITTED, int(row.seed), float(row.target), row.r) for row in fitted.itertuples()]


def points_of(table: pd.DataFrame) -> list[FrontierPoint]:
    """Return a point per family and target: the mean agreement over seeds, lowest to highest."""
    points = []
    for (family, _), rows in table.groupby(["family", "target"], sort=False):
        score, several = rows["agreement"].mean(), len(rows) > 1
        low, high = (rows["agreement"].min(), rows["agreement"].max()) if several else (None, None)
        score = score if low is None else min(max(score, low), high)  # a mean may round past what it is the mean of
        points.append(FrontierPoint(family, rows["macs_cut"].mean(), score, low, high))
    return points


def summary(table: pd.DataFrame) -> str:
    """Return a Markdown table: points lost (same top label) per target and family, means over the seeds."""
    families = list(table["family"].unique())
    lines = ["| MACs cut | " + " | ".join(families) + " |", "|" + "---|" * (len(families) + 1)]
    for target in sorted(table["target"].unique(), key=float):
        means = table[table["target"] == target].groupby("family")[["points_lost", "agreement"]].mean()
        cells = [
            f"{means.loc[family, 'points_lost']:.2f} ({means.loc[family, 'agreement']:.1f} %)"
            if family in means.index
            else "out of reach"
            for family in families
        ]
        lines.append(f"| {target}x | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Score the table named on the command line."""
    parser = argparse.ArgumentParser(description="Score the schedules of a frontier table.")
    parser.add_argument("table", type=Path, help="frontier-NAME-torch2.11-cpu.csv")
    parser.add_argument("--schedules", type=Path, nargs="+", metavar="FOLDER", help="replace the fitted rows by these")
    given = parser.parse_args(words)
    path: Path = given.table
    name, subject = subject_of(path)
    facts: dict[str, Any] = {}
    if path.with_suffix(".json").exists():  # how rows that stay were fitted
        facts = json.loads(path.with_suffix(".json").read_text()).get("fitting", {})
    fitted = table_rows(path)
    if given.schedules:
        fitted, facts = fitted_rows(given.schedules)
    loaded = load_model(str(subject.model))
    n_tokens, clips = count_tokens(loaded), read_clips(subject, loaded)
    rows = [*data_free_rows(loaded.model, n_tokens, subject.targets), *fitted]
    table, accuracy = score_rows(loaded.model, rows, clips, n_tokens)
    table.to_csv(path, index=False)
    folders = ["--schedules", *(folder.name for folder in given.schedules)] if given.schedules else []
    record = {
        "model": name, "n_tokens": n_tokens, "n_clips": len(clips.target), "unmerged_accuracy": accuracy,
        "command": " ".join(["python benchmarks/frontier.py", path.name, *folders]), "options": _OPTIONS,
        "fitting": facts, "environment": environment(),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    title = subject.title.format(len(clips.target)) + "; bars: lowest to highest of the seeds"
    figure = plot_frontier(
        points_of(table), title, measure="same top label as unmerged (%)", unmerged=100.0, close_up=8.0
    )
    save_figure(figure, path.with_suffix(".png"))
    print(f"\nunmerged: {accuracy:.2f} % of {len(clips.target)} clips\n{summary(table)}")


if __name__ == "__main__":
    main()
