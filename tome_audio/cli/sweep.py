"""`tome-audio sweep`: accuracy, MACs and measured speed-up against r."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.table import Table
from torch import Tensor

from tome_audio.cli.corpora import labelled
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console, progress, warn, write_whole
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.data.clips import Clip, LoadedClips, load_waveforms
from tome_audio.evaluation import SweepAnswers, SweepRow, sweep_answers
from tome_audio.merge import Rate
from tome_audio.patch.config import Metric
from tome_audio.profiling import environment
from tome_audio.viz.figure import save_figure
from tome_audio.viz.tradeoff import plot_tradeoff

SILENCE = "_silence_"


def sweep(
    model: str,
    data: str,
    r: str = "0,4,8,12",
    split: Literal["all", "train", "valid", "test"] = "all",
    metric: Metric = "key",
    batch_size: int = 32,
    threads: int | None = None,
    out: str = "runs/sweep",
    labels: str | None = None,
) -> int:
    """Measure accuracy, MACs and speed-up over several r, against the unpatched model in the same run.

    Writes sweep.csv, sweep.json (options, versions, machine) and sweep.png/.svg into the folder --out.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        data: Folder of labelled clips: one per class, FSDD, a split.csv (file,label,split), or what manifest wrote.
        r: Settings to compare: 0,4,8,[45,20,12,6],(8,-1).
        split: Which clips to score.
        metric: What similarity is measured on.
        batch_size: Clips per forward pass.
        threads: CPU threads for the model; none leaves PyTorch's choice. One is steadier on a busy machine.
        out: Folder for the results; made if need be.
        labels: Label CSV (index,mid,display_name) for weights that hold no names, such as official AST files.
    """
    rates = parse_rates(r)
    check_counts(batch_size=batch_size)
    use_threads(threads)
    loaded = load_model(model, labels)
    clips = labelled_clips(loaded, data, split)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (rows, _, _), errors = answer_clips(loaded, clips, rates, metric, batch_size)
    options = {"model": model, "data": data, "r": r, "split": split, "metric": metric, "batch_size": batch_size}
    write_results(folder, rows, {**options, "threads": torch.get_num_threads()}, title=f"{Path(model).stem}")
    console().print(sweep_table(rows))
    console().print(f"written: {folder}/sweep.csv, sweep.json, sweep.png, sweep.svg")
    return 1 if errors else 0


def labelled_clips(loaded: LoadedModel, data: str, split: str) -> list[Clip]:
    """Return the clips of a folder that are in the split, or in any where it is "all".

    Raises:
        ValueError: the model names no classes, or the folder has no such clip or one of a label the model lacks.
    """
    names = loaded.need_labels()
    clips = [clip for clip in labelled(data) if split in ("all", clip.split)]
    if not clips:
        raise ValueError(f"{data} has no clip in split {split!r}")
    check_labels(clips, names, loaded.name)
    return clips


def answer_clips(
    loaded: LoadedModel,
    clips: Sequence[Clip],
    rates: Sequence[Rate],
    metric: Metric,
    batch_size: int,
    labels: Mapping[Path, Tensor] | None = None,
) -> tuple[SweepAnswers, int]:
    """Score and time the model on those clips that can be read; name the others on stderr and count them.

    `labels` (K,) by path are for clips that have several.
    """
    names = loaded.need_labels()
    with progress() as bars:
        reading = bars.add_task("read", total=len(clips))
        read = load_waveforms(clips, on_progress=lambda done, _: bars.update(reading, completed=done))
        running = bars.add_task("sweep", total=math.ceil(len(read.clips) / batch_size))
        found = sweep_answers(
            loaded.model,
            batches(loaded, read, names, batch_size, labels),
            rates,
            metric=metric,
            silence=names.index(SILENCE) if SILENCE in names else None,
            multi_label=labels is not None,
            on_batch=lambda: bars.advance(running),
        )
    for error in read.errors:
        warn(f"error: {error}")
    return found, len(read.errors)


def check_labels(clips: Sequence[Clip], names: Sequence[str], model: str) -> None:
    """Raise unless every clip's label is one the model knows.

    Raises:
        ValueError: naming the labels that are not, and how many clips have them.
    """
    unknown = Counter(clip.label for clip in clips if clip.label not in set(names))
    if unknown:
        listed = ", ".join(f"{label} ({count} clips)" for label, count in unknown.most_common(5))
        raise ValueError(f"{model} does not know these labels: {listed}; it knows {', '.join(names[:12])} ...")


def batches(
    loaded: LoadedModel,
    read: LoadedClips,
    names: Sequence[str],
    batch_size: int,
    labels: Mapping[Path, Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield model inputs and class indices (B,), or labels (B, K) where they are given; feature extraction done."""
    assert loaded.prepare is not None  # need_labels has seen it
    for start in range(0, len(read.clips), batch_size):
        part = slice(start, start + batch_size)
        if labels is None:
            target = torch.tensor([names.index(clip.label) for clip in read.clips[part]])
        else:
            target = torch.stack([labels[clip.path] for clip in read.clips[part]])
        yield loaded.prepare(read.waveforms[part]), target


def sweep_table(rows: Sequence[SweepRow]) -> Table:
    """Return the table that `sweep` and `demo` print."""
    spoken = any(row.accuracy_spoken is not None for row in rows)
    columns = ["r", "tokens left", "MACs cut", "speed-up (quartiles)", "accuracy %"]
    table = Table(caption=f"{rows[0].n_clips} clips; speed-up against the unpatched model in the same run")
    for column in [*columns, *(["spoken %"] if spoken else []), "same top label %"]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            rate_name(row.r),
            str(row.tokens_left),
            f"{row.macs_cut:.2f}x",
            f"{row.speedup:.2f}x ({row.speedup_low:.2f} to {row.speedup_high:.2f})",
            f"{row.accuracy:.2f}",
            *([f"{row.accuracy_spoken:.2f}"] if row.accuracy_spoken is not None else []),
            f"{row.agreement:.2f}",
        )
    return table


def write_results(folder: Path, rows: Sequence[SweepRow], options: dict[str, Any], title: str) -> None:
    """Write sweep.csv, sweep.json and the figure into `folder`, each whole or not at all."""
    frame = pd.DataFrame([{**asdict(row), "r": rate_name(row.r)} for row in rows])
    write_whole(folder / "sweep.csv", frame.to_csv(index=False, float_format="%.4f"))
    facts = {"options": options, "environment": environment(), "rows": json.loads(frame.to_json(orient="records"))}
    write_whole(folder / "sweep.json", json.dumps(facts, indent=2) + "\n")
    scores = [row.accuracy if row.accuracy_spoken is None else row.accuracy_spoken for row in rows]
    cuts, speeds = [row.macs_cut for row in rows], [row.speedup for row in rows]
    names, constant = [f"r={rate_name(row.r)}" for row in rows], [isinstance(row.r, int) for row in rows]
    figure = plot_tradeoff(cuts, speeds, scores, names, constant, title)
    save_figure(figure, folder / "sweep.png")
