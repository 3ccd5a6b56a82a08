"""`tome-audio results`: what evaluations found, as a table for RESULTS.md; mean and spread over folds or seeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tome_audio.cli.output import console, write_whole

_COLUMNS = {
    "accuracy": "accuracy %",
    "interval": "95 % interval ±",
    "macro_precision": "macro precision %",
    "macro_recall": "macro recall %",
    "macro_f1": "macro F1 %",
    "mean_ap": "mAP",
    "mean_auc": "mAUC",
    "d_prime": "d'",
    "hit_rate_1": "HR@1",
    "hit_rate_3": "HR@3",
    "hit_rate_10": "HR@10",
    "median_rank": "median rank",
    "auroc": "AUROC",
    "fpr_at_95_tpr": "FPR at 95 % TPR",
    "localised": "localised",
    "found": "found at the threshold",
    "false_alarms": "false alarms there",
    "macs_cut": "MACs cut",
    "speedup": "speed-up",
    "windows_per_second": "windows/s",
    "index_time": "index time",
}
_ON_A_GPU = ("windows_per_second",)  # absolute times of a CPU say little about another
_QUARTILES = ("speedup",)


def results(runs: list[str], append: str | None = None, title: str = "Results", command: str | None = None) -> int:
    """Print a table of evaluations, with mean and standard deviation over the folds or seeds of the same thing.

    Runs in folders that differ in -seedN or -foldN alone are taken together; one run, or one such group, needs no
    column that says which it is. The deviation is that of the population (divided by the number of runs), as
    published for ESC-50.

    Args:
        runs: Folders that `tome-audio evaluate` has written.
        append: File to append the table to, with commit, versions and machine; none prints only.
        title: Heading of the table.
        command: What was run, to stand beside the numbers.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(group_name(run), []).append(_read(Path(run)))
    if not groups:
        raise ValueError("there are no runs: give folders that `tome-audio evaluate` has written")
    text = _text(groups, title, command)
    console().print(text, markup=False, soft_wrap=True)
    if append is not None:
        path = Path(append)
        before = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
        write_whole(path, f"{before.rstrip()}\n\n{text}\n")
    return 0


def group_name(run: str) -> str:
    """Return the name of an evaluation without seed and fold: "small" for runs/small-seed0/evaluate.

    What follows in the folder's name stays: "small-5shot" for runs/small-seed0/evaluate-5shot.
    """
    path = Path(run)
    name = path.name
    if name.startswith("evaluate"):
        name = path.resolve().parent.name + name.removeprefix("evaluate")
    return re.sub(r"-(seed|fold)\d+(?=-|$)", "", name) or name


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "evaluate.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["rows"][0]["r"], found["environment"]["commit"]
    except OSError as error:
        raise ValueError(f"there is no {path}: run `tome-audio evaluate` with --out {folder} first") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): run `tome-audio evaluate` again") from error
    return found


def _text(groups: Mapping[str, Sequence[Mapping[str, Any]]], title: str, command: str | None) -> str:
    everything = [run for runs in groups.values() for run in runs]
    on_cpu = any("gpu" not in run["environment"] for run in everything)
    names = [name for name in _COLUMNS if any(name in row for run in everything for row in run["rows"])]
    names = [name for name in names if not (on_cpu and name in _ON_A_GPU)]
    several = len(groups) > 1
    head = [*(["model"] if several else []), "r", *(_COLUMNS[name] for name in names)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for group, runs in groups.items():
        rates = [row["r"] for row in runs[0]["rows"]]
        if any([row["r"] for row in run["rows"]] != rates for run in runs):
            raise ValueError(f"the runs of {group} were evaluated with different r: use the same --r for all of them")
        for i, rate in enumerate(rates):
            rows = [run["rows"][i] for run in runs]
            cells = [_figure(rows, name) for name in names]
            lines.append("| " + " | ".join([*([group] if several else []), str(rate), *cells]) + " |")
    clips = " or ".join(sorted({_counted(run) for run in everything}))
    splits = " and ".join(sorted({str(run["options"]["split"]) for run in everything}))
    counts = sorted({len(runs) for runs in groups.values()})
    over = " or ".join(map(str, counts))
    spread = f", mean ± standard deviation over {over} runs" if counts[-1] > 1 else ""
    facts = [f"{_tasks(everything)}{clips} of split {splits}{spread}."]
    if command:
        facts.append(f"`{command}`.")
    places = {tuple(_where(run["environment"])) for run in everything}
    facts += ["Commit {}, torch {}, {}.".format(*place) for place in sorted(places)]
    return "\n".join([f"## {title}", "", " ".join(facts), "", *lines])


def _tasks(runs: Sequence[Mapping[str, Any]]) -> str:
    # Of `tome-audio fewshot evaluate`.
    options = [run["options"] for run in runs]
    counted = sum("n_tasks" in own for own in options)
    if not counted:
        return ""
    if counted < len(options):
        raise ValueError("accuracy over tasks and over clips do not belong in one table: call it once for each")
    asked = sorted({f"{own['n_tasks']} tasks, {own['episodes']}, classifier {own['classifier']}" for own in options})
    return f"{' or '.join(asked)}, on "


def _where(environment: Mapping[str, Any]) -> tuple[str, str, str]:
    return environment["commit"], environment["torch"], environment.get("gpu", environment["cpu"])


def _counted(run: Mapping[str, Any]) -> str:
    """Return what was scored, such as "400 clips"; of sample identification the songs and what they are ranked by."""
    row = run["rows"][0]
    if "n_references" in row:
        return f"{row['n_clips']} songs with a sample, {row['n_without']} without, and {row['n_references']} references"
    return f"{row['n_clips']} {run['options'].get('kind', 'clips')}"


def _figure(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return the cell of one figure; of a single run with its interval, where it has one."""
    values = [row.get(name) for row in rows]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return ""
    low, high = rows[0].get(f"{name}_low"), rows[0].get(f"{name}_high")
    if len(rows) > 1 or low is None or high is None or name in _QUARTILES:
        return _cell(known)
    digits = 1 if max(abs(low), abs(high)) > 1 else 3
    return f"{_cell(known)} ({low:.{digits}f} to {high:.{digits}f})"


def _cell(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.2f}" if abs(mean) >= 1 else f"{mean:.4f}"
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return f"{mean:.2f} ± {spread:.2f}" if abs(mean) >= 1 else f"{mean:.4f} ± {spread:.4f}"
