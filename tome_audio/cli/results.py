"""`tome-audio results`: what evaluations found, as a table for RESULTS.md; mean and spread over folds or seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tome_audio.cli.output import console, write_whole

_COLUMNS = {
    "accuracy": "accuracy %",
    "macro_precision": "macro precision %",
    "macro_recall": "macro recall %",
    "macro_f1": "macro F1 %",
    "mean_ap": "mAP",
    "mean_auc": "mAUC",
    "d_prime": "d'",
    "macs_cut": "MACs cut",
    "speedup": "speed-up",
}


def results(runs: list[str], append: str | None = None, title: str = "Results", command: str | None = None) -> int:
    """Print the table of one evaluation, or mean and standard deviation over those of several folds or seeds.

    The deviation is that of the population (divided by the number of runs), as published for ESC-50.

    Args:
        runs: Folders that `tome-audio evaluate` has written.
        append: File to append the table to, with commit, versions and machine; none prints only.
        title: Heading of the table.
        command: What was run, to stand beside the numbers.
    """
    found = [_read(Path(run)) for run in runs]
    if not found:
        raise ValueError("there are no runs: give folders that `tome-audio evaluate` has written")
    text = _text(found, title, command)
    console().print(text)
    if append is not None:
        path = Path(append)
        before = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
        write_whole(path, f"{before.rstrip()}\n\n{text}\n")
    return 0


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


def _text(found: Sequence[Mapping[str, Any]], title: str, command: str | None) -> str:
    first = found[0]
    rates = [row["r"] for row in first["rows"]]
    if any([row["r"] for row in run["rows"]] != rates for run in found):
        raise ValueError("the runs were evaluated with different r: evaluate all of them with the same --r")
    names = [name for name in _COLUMNS if all(name in row for run in found for row in run["rows"])]
    head = ["r", *(_COLUMNS[name] for name in names)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for i, rate in enumerate(rates):
        cells = [_cell([run["rows"][i][name] for run in found]) for name in names]
        lines.append("| " + " | ".join([str(rate), *cells]) + " |")
    clips = ", ".join(sorted({str(run["rows"][0]["n_clips"]) for run in found}))
    spread = f", mean ± standard deviation over {len(found)} runs" if len(found) > 1 else ""
    facts = [f"{clips} clips of split {first['options']['split']}{spread}."]
    if command:
        facts.append(f"`{command}`.")
    where = first["environment"]
    facts.append(f"Commit {where['commit']}, torch {where['torch']}, {where.get('gpu', where['cpu'])}.")
    return "\n".join([f"## {title}", "", " ".join(facts), "", *lines])


def _cell(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.2f}" if abs(mean) >= 1 else f"{mean:.4f}"
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return f"{mean:.2f} ± {spread:.2f}" if abs(mean) >= 1 else f"{mean:.4f} ± {spread:.4f}"
