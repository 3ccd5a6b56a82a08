"""`tome-audio evaluate`: accuracy, macro precision, recall and F1, MACs and speed over several r; every class too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.table import Table

from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.evaluate_multi_label import (
    multi_label_class_rows,
    multi_label_rows,
    multi_label_table,
    multi_label_targets,
)
from tome_audio.cli.loading import load_model
from tome_audio.cli.output import console, write_whole
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.cli.sweep import answer_clips, labelled_clips
from tome_audio.data.clips import Clip
from tome_audio.evaluation import SweepAnswers
from tome_audio.metrics import SingleLabelScores, multi_label_scores, per_class_rows, single_label_scores
from tome_audio.patch.config import Metric
from tome_audio.patch.registry import UnsupportedModelError
from tome_audio.profiling import environment

UNPATCHED = "unpatched"
_MACROS = ("macro_precision", "macro_recall", "macro_f1")


def evaluate(
    model: str,
    data: str,
    r: str = "0,4,8,12",
    split: Literal["all", "train", "valid", "test"] = "test",
    metric: Metric = "key",
    batch_size: int = 32,
    threads: int | None = None,
    out: str = "runs/evaluate",
    labels: str | None = None,
) -> int:
    """Score a model over several r: accuracy, macro precision, recall and F1, or mAP, mAUC and d'; MACs, speed-up.

    Measures as sweep does. A model for several labels per clip is scored by mAP, mAUC and d' on what `tome-audio
    manifest` wrote. Writes evaluate.csv, classes.csv (every class with every r) and evaluate.json (options,
    versions, machine) into the folder --out. Macro means leave out classes that no clip has.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        data: Folder of labelled clips: one per class, FSDD, a split.csv (file,label,split), or what manifest wrote.
        r: Settings to compare, such as 0,8,2x; or unpatched, which scores any model as it is, CNNs too.
        split: Which clips to score.
        metric: What similarity is measured on.
        batch_size: Clips per forward pass.
        threads: CPU threads for the model; none leaves PyTorch's choice. One is steadier on a busy machine.
        out: Folder for the results; made if need be.
        labels: Label CSV (index,mid,display_name) for weights that hold no names, such as official AST files.
    """
    rates = [] if r == UNPATCHED else parse_rates(r)
    check_counts(batch_size=batch_size)
    use_threads(threads)
    loaded = load_model(model, labels)
    targets = multi_label_targets(loaded, data, split) if loaded.multi_label else None
    clips = labelled_clips(loaded, data, split) if targets is None else [Clip(path, "", split) for path in targets]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found, errors = answer_clips(loaded, clips, rates, metric, batch_size, targets)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{error}; to score it as it is, use --r {UNPATCHED}") from error
    names = loaded.need_labels()
    if targets is not None:
        found_scores = [multi_label_scores(answer, found.truth) for answer in found.answers[1 if rates else 0 :]]
        rows = multi_label_rows(found, found_scores)
        by_class = multi_label_class_rows(rows, found_scores, names)
        _write(folder, rows, by_class, _options(model, data, r, split, metric, batch_size))
        console().print(multi_label_table(rows))
        console().print(f"written: {folder}/evaluate.csv, classes.csv, evaluate.json")
        return 1 if errors else 0
    scores = [single_label_scores(answer, found.truth, len(names)) for answer in found.answers]
    # The unpatched answers are a row of their own only where nothing else is asked for: r = 0 gives the same.
    scored = scores[1:] if rates else scores
    rows = _rows(found, scored)
    _write(folder, rows, _class_rows(rows, scored, names), _options(model, data, r, split, metric, batch_size))
    console().print(_table(rows, scored[0]))
    console().print(f"written: {folder}/evaluate.csv, classes.csv, evaluate.json")
    return 1 if errors else 0


def _options(model: str, data: str, r: str, split: str, metric: str, batch_size: int) -> dict[str, Any]:
    options = {"model": model, "data": data, "r": r, "split": split, "metric": metric, "batch_size": batch_size}
    return {**options, "threads": torch.get_num_threads()}


def _rows(found: SweepAnswers, scores: Sequence[SingleLabelScores]) -> list[dict[str, Any]]:
    """Return what `sweep` measures with the macro means beside it, all scores in percent."""
    rows: list[dict[str, Any]] = [{**asdict(row), "r": rate_name(row.r)} for row in found.rows]
    rows = rows or [{"r": UNPATCHED, "accuracy": 100 * scores[0].accuracy, "n_clips": scores[0].n_clips}]
    for row, score in zip(rows, scores, strict=True):
        row.update({name: 100 * getattr(score, name) for name in _MACROS})
        row["classes_left_out"] = score.n_left_out
    return rows


def _class_rows(
    rows: Sequence[dict[str, Any]], scores: Sequence[SingleLabelScores], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    percent = ("precision", "recall", "f1")
    return [
        {"r": row["r"], **{name: 100 * value if name in percent else value for name, value in of_class.items()}}
        for row, score in zip(rows, scores, strict=True)
        for of_class in per_class_rows(score, names)
    ]


def _table(rows: Sequence[dict[str, Any]], score: SingleLabelScores) -> Table:
    left_out = f"; {score.n_left_out} classes have no clip and are left out of the means" if score.n_left_out else ""
    timed = "; speed-up against the unpatched model in the same run" if "speedup" in rows[0] else ""
    table = Table(caption=f"{score.n_clips} clips{timed}{left_out}")
    columns = {"r": "r", "macs_cut": "MACs cut", "speedup": "speed-up (quartiles)", "accuracy": "accuracy %"}
    shown = {**columns, **{name: f"{name.replace('_', ' ')} %" for name in _MACROS}}
    for name, title in shown.items():
        if name in rows[0]:
            table.add_column(title.replace("f1", "F1"), justify="right")
    for row in rows:
        cells = {name: f"{row[name]:.2f}" for name in ("accuracy", *_MACROS)}
        if "speedup" in row:
            cells["macs_cut"] = f"{row['macs_cut']:.2f}x"
            cells["speedup"] = f"{row['speedup']:.2f}x ({row['speedup_low']:.2f} to {row['speedup_high']:.2f})"
        cells["r"] = row["r"]
        table.add_row(*(cells[name] for name in shown if name in cells))
    return table


def _write(
    folder: Path, rows: Sequence[dict[str, Any]], classes: Sequence[dict[str, Any]], options: dict[str, Any]
) -> None:
    """Write evaluate.csv, classes.csv and evaluate.json into `folder`, each whole or not at all."""
    table, by_class = pd.DataFrame(rows), pd.DataFrame(classes)
    write_whole(folder / "evaluate.csv", table.to_csv(index=False, float_format="%.4f"))
    write_whole(folder / "classes.csv", by_class.to_csv(index=False, float_format="%.4f"))
    tables = {"rows": table, "classes": by_class}
    facts = {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}
    text = json.dumps({"options": options, "environment": environment(), **facts}, indent=2)
    write_whole(folder / "evaluate.json", text + "\n")
