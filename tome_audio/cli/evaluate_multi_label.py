"""The part of `tome-audio evaluate` for clips with several labels: mAP, mAUC and d', and no accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from tome_audio.cli.corpora import is_manifest, read_manifest
from tome_audio.cli.loading import LoadedModel
from tome_audio.cli.rates import rate_name
from tome_audio.data.clips import DataError
from tome_audio.data.teacher_logits import check_same_labels
from tome_audio.evaluation import SweepAnswers
from tome_audio.metrics import MultiLabelScores

_SCORES = {"mean_ap": "mAP", "mean_auc": "mAUC", "d_prime": "d'"}
_NO_SENSE = ("accuracy", "accuracy_spoken")


def multi_label_targets(loaded: LoadedModel, data: str, split: str) -> dict[Path, Tensor]:
    """Return the labels (K,) of the manifest's clips in a split, by path.

    Raises:
        DataError: No manifest, other classes than the model's, or no such clips.
    """
    if not is_manifest(Path(data)):
        raise DataError(
            f"{loaded.name} is for several labels per clip, and {data} is no manifest: give a folder that "
            "`tome-audio manifest` has written"
        )
    found = read_manifest(Path(data))
    check_same_labels(found.names, loaded.need_labels(), data, loaded.name)
    targets = {e.path: found.target(i) for i, e in enumerate(found.entries) if split in ("all", e.split)}
    if not targets:
        raise DataError(f"{data} has no clip in split {split!r}")
    return targets


def multi_label_rows(found: SweepAnswers, scores: Sequence[MultiLabelScores]) -> list[dict[str, Any]]:
    """Return what `sweep` measures with the scores beside it, from 0 to 1."""
    rows: list[dict[str, Any]] = [
        {name: value for name, value in asdict(row).items() if name not in _NO_SENSE} | {"r": rate_name(row.r)}
        for row in found.rows
    ] or [{"r": "unpatched", "n_clips": len(found.truth)}]
    for row, score in zip(rows, scores, strict=True):
        row.update({name: getattr(score, name) for name in _SCORES})
        row["classes_left_out"] = score.n_without_positives
    return rows


def multi_label_class_rows(
    rows: Sequence[dict[str, Any]], scores: Sequence[MultiLabelScores], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return every class with every r; scores of classes that no clip has are NaN."""
    columns = ("average_precision", "auc", "n_positives")
    return [
        {"r": row["r"], "label": name, **{column: getattr(score, column)[k].item() for column in columns}}
        for row, score in zip(rows, scores, strict=True)
        for k, name in enumerate(names)
    ]


def multi_label_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table that `evaluate` prints."""
    left_out = f"; {rows[0]['classes_left_out']} classes have no clip and are left out of the means"
    table = Table(caption=f"{rows[0]['n_clips']} clips{left_out if rows[0]['classes_left_out'] else ''}")
    timed = {"macs_cut": "MACs cut", "speedup": "speed-up"} if "speedup" in rows[0] else {}
    for title in ("r", *timed.values(), *_SCORES.values()):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(row["r"], *(f"{row[name]:.2f}x" for name in timed), *(f"{row[name]:.4f}" for name in _SCORES))
    return table
