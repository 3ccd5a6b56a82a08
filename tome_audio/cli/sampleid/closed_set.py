"""`tome-audio sampleid closed-set`: which of the records it was trained on does a song sample."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.table import Table
from torch import Tensor

from tome_audio.audio import read_audio
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.evaluate import UNPATCHED
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console, progress, warn, write_whole
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.cli.train_build import build_model, build_task
from tome_audio.cli.train_config import (
    ClipsConfig,
    DistillConfig,
    FeatureConfig,
    LossConfig,
    MergingConfig,
    ModelConfig,
)
from tome_audio.cli.train_data import Parts, find_statistics, is_main_process, make_data
from tome_audio.cli.training_run import run_trainer
from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.sample_tables import read_sample_table, with_audio
from tome_audio.data.song_labels import UNSEEN, song_manifest
from tome_audio.data.song_windows import SongWindows, write_windows
from tome_audio.data.training_clips import Augmentation
from tome_audio.evaluation import SweepAnswers, sweep_answers
from tome_audio.evaluation.closed_set import SeenAndUnseen, song_logits, song_scores
from tome_audio.installation import import_extra
from tome_audio.models import save_checkpoint
from tome_audio.profiling import environment
from tome_audio.training.run_folder import read_weights
from tome_audio.training.settings import TrainerSettings
from tome_audio.viz.curves import plot_errors
from tome_audio.viz.figure import save_figure

_FEATURES, _AUGMENT, _MODEL, _MERGE = FeatureConfig(n_frames=512), Augmentation(), ModelConfig(), MergingConfig()
_TRAINER = TrainerSettings(epochs=50)
_WINDOW, _SHIFT = 400, 160  # samples of a frame, and from one frame to the next
_NAMED = 20


def closed_set(
    data: str,
    out: str = "runs/sampleid/closed-set",
    audio: str | None = None,
    unseen: float = 0.34,
    hop: float = 0.5,
    r: str = "0",
    batch_size: int = 16,
    label_smoothing: float = 0.0,
    seed: int = 0,
    resume: bool = False,
    threads: int | None = None,
    tensorboard: bool = False,
    features: FeatureConfig = _FEATURES,
    augment: Augmentation = _AUGMENT,
    model: ModelConfig = _MODEL,
    merge: MergingConfig = _MERGE,
    trainer: TrainerSettings = _TRAINER,
) -> int:
    """Train a classifier from songs to the records they sample; score it on its training songs and on unseen ones.

    Songs are cut into windows of the model's input, and the logits of a song's windows are averaged. The last epoch is
    what is scored. Writes model.safetensors, epochs.csv, error.png and .svg, songs.csv, and evaluate-train and
    evaluate-unseen, which `tome-audio results` puts into a table.

    Args:
        data: A world of `tome-audio sampleid generate`, or a folder with Sample100's samples.csv and tracks.csv.
        out: Folder for windows, checkpoints and results; made if need be.
        audio: Folder of audio files named by track id; none where the world holds them.
        unseen: Part of a record's songs that is kept from training, where the data has no such split.
        hop: From one window of a song to the next, in windows.
        r: Settings to score at, such as 0,2x; unpatched scores the model as it is.
        batch_size: Windows per forward pass when it is scored.
        label_smoothing: Part of the labels that is spread over all records.
        seed: Of the draw of unseen songs.
        resume: Go on from the newest checkpoint in --out, if there is one.
        threads: CPU threads; none leaves PyTorch's choice.
        tensorboard: Write curves for TensorBoard too.
        features: The model's input.
        augment: What is random about training windows.
        model: What is trained.
        merge: Merging while training.
        trainer: Optimiser, schedule, precision and the like.
    """
    rates = [] if r == UNPATCHED else parse_rates(r)
    check_counts(batch_size=batch_size)
    if not 0 < hop <= 1:
        raise ValueError(f"--hop must be a part of a window in (0, 1], got {hop}")
    use_threads(threads)
    import_extra("accelerate", "training", "recipes")
    folder = Path(out)
    songs, n_missing = _find_songs(data, audio, unseen, seed)
    found = _cut(songs, folder / "windows", _WINDOW + (features.n_frames - 1) * _SHIFT, hop)
    recipe: dict[str, Any] = {"features": features, "augment": augment, "model": model, "merge": merge}
    options: dict[str, Any] = {"data": data, "audio": audio, "unseen": unseen, "hop": hop, "seed": seed}
    options |= {"label_smoothing": label_smoothing, **{name: asdict(option) for name, option in recipe.items()}}
    configs = _Configs(features, augment, model, LossConfig(label_smoothing=label_smoothing), merge, trainer)
    path = _train(found, configs, folder, options, resume, tensorboard)
    if is_main_process():
        _draw_errors(folder)
        scored = _score(load_model(str(path)), found, rates, batch_size)
        _write(folder, scored, found, {**options, "r": r, "trainer": asdict(trainer)})
        console().print(_table(scored))
        console().print(f"written: {path}, epochs.csv, error.png, songs.csv, evaluate-train/, evaluate-unseen/")
    return 1 if found.problems or n_missing else 0


@dataclass(frozen=True)
class _Configs:
    features: FeatureConfig
    augment: Augmentation
    model: ModelConfig
    loss: LossConfig
    merge: MergingConfig
    trainer: TrainerSettings


def _find_songs(data: str, audio: str | None, unseen: float, seed: int) -> tuple[Manifest, int]:
    """Return the labelled songs, and how many tracks have no audio; those that matter here are named on stderr."""
    table = read_sample_table(data)
    if audio is not None:
        table, _ = with_audio(table, audio)
    wanted = [track for track in table.songs() if table.originals_of(track.id)]
    missing = [track.id for track in wanted if track.path is None]
    if len(missing) == len(wanted):
        raise DataError(f"none of the {len(wanted)} songs of {data} has audio: give its folder with --audio")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        warn(f"{len(missing)} of {len(wanted)} songs have no audio: {', '.join(missing[:_NAMED])}{more}")
    songs = song_manifest(table, unseen=unseen, seed=seed)
    if not any(entry.split == UNSEEN for entry in songs.entries):
        warn("no record is sampled by two songs, or --unseen is 0: there is no figure on unseen songs")
    return songs, len(missing)


def _cut(songs: Manifest, folder: Path, length: int, hop: float) -> SongWindows:
    with progress() as bars:
        task = bars.add_task("windows", total=len(songs))
        found = write_windows(
            songs, folder, length=length, hop=max(1, round(hop * length)),
            on_song=lambda done: bars.update(task, completed=done),
        )  # fmt: skip
    for problem in found.problems:
        warn(f"skipped: {problem}")
    return found


def _train(
    found: SongWindows, configs: _Configs, folder: Path, options: dict[str, Any], resume: bool, tensorboard: bool
) -> Path:
    """Train, scoring training and unseen songs after every epoch, and save the weights of the last one."""
    windows, trainer = found.manifest, configs.trainer
    parts = Parts(windows.select("train"), windows, 0)
    statistics = find_statistics(configs.features, parts.train, trainer.seed)
    torch.manual_seed(trainer.seed)
    network = build_model(configs.model, configs.features, windows.names)
    ids, song = found.songs()
    unseen = {str(entry.source) for entry in windows.entries if entry.split == UNSEEN}
    task = build_task(
        configs.loss, DistillConfig(), configs.merge, network, statistics, multi_label=False, seed=trainer.seed,
        scores=SeenAndUnseen(song, [name in unseen for name in ids]),
    )  # fmt: skip
    clips = ClipsConfig(check=False, cache=str(folder / "features"))
    sets = make_data(parts, clips, configs.features, configs.augment, statistics, None, trainer.seed)
    if is_main_process():
        n_weights = sum(weights.numel() for weights in network.parameters())
        console().print(
            f"training {configs.model.kind} ({n_weights:,} parameters) on {len(parts.train)} windows of "
            f"{len(ids) - len(unseen)} songs, {len(windows.labels)} records; {len(unseen)} songs are unseen"
        )
    facts = json.loads(json.dumps({key: value for key, value in options.items() if key not in ("data", "audio")}))
    facts |= {"songs": list(ids), "unseen songs": sorted(unseen)}
    result = run_trainer(task, network, sets, trainer, folder, facts, resume, tensorboard)
    path = folder / "model.safetensors"
    if is_main_process():
        network.load_state_dict(read_weights(result.last_weights))
        saved = {"mean": statistics.mean, "std": statistics.std, "n_frames": statistics.n_frames}
        save_checkpoint(path, network, features=saved, extra={"records": list(windows.labels)})
    return path


def _draw_errors(folder: Path) -> None:
    """Draw error.png and error.svg from epochs.csv."""
    with (folder / "epochs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curves = {"training songs": "accuracy", "unseen songs": "unseen_accuracy"}
    errors = {
        name: [100 * (1 - float(row[column])) for row in rows] for name, column in curves.items() if column in rows[0]
    }
    epochs = [int(row["epoch"]) + 1 for row in rows]
    save_figure(plot_errors(epochs, errors, "Which record does the song sample?"), folder / "error.png")


@dataclass(frozen=True)
class _Scored:
    """Rows and answers of one split: a row per r, the songs, and the answer of the first r to each."""

    rows: list[dict[str, Any]]
    songs: tuple[str, ...]
    labels: list[str]
    answers: list[str]


def _score(loaded: LoadedModel, found: SongWindows, rates: Sequence[Any], batch_size: int) -> dict[str, _Scored]:
    """Answer all windows with every r, and score the songs of each split."""
    windows = found.manifest
    truth = windows.class_indices()
    with progress() as bars:
        task = bars.add_task("score", total=-(-len(windows) // batch_size))
        answers = sweep_answers(
            loaded.model, _batches(loaded, windows.entries, truth, batch_size), rates, multi_label=True,
            on_batch=lambda: bars.advance(task),
        )  # fmt: skip
    given = answers.answers[1:] if rates else answers.answers
    scored = {}
    for split in dict.fromkeys(str(entry.split) for entry in windows.entries):
        chosen = torch.tensor([entry.split == split for entry in windows.entries])
        ids, song = found.songs(windows.select(split))
        rows = _rows(answers, [own[chosen] for own in given], truth[chosen], song)
        first = song_logits(given[0][chosen], song).argmax(1).tolist()
        label = {str(entry.source): entry.labels[0] for entry in windows.entries}
        said = [windows.labels[i] for i in first]
        scored["unseen" if split == UNSEEN else split] = _Scored(rows, ids, [label[name] for name in ids], said)
    return scored


def _batches(
    loaded: LoadedModel, entries: Sequence[Entry], truth: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    assert loaded.prepare is not None  # a checkpoint of ours
    for start in range(0, len(entries), batch_size):
        part = slice(start, start + batch_size)
        yield loaded.prepare([read_audio(entry.path) for entry in entries[part]]), truth[part]


def _rows(found: SweepAnswers, given: Sequence[Tensor], truth: Tensor, song: Tensor) -> list[dict[str, Any]]:
    """Return accuracy and macro F1 of songs in percent for every r, with what `sweep_answers` measured of windows."""
    cost = ("macs_cut", "speedup", "speedup_low", "speedup_high")
    rows: list[dict[str, Any]] = [
        {"r": rate_name(row.r), **{name: getattr(row, name) for name in cost}} for row in found.rows
    ] or [{"r": UNPATCHED}]
    for row, logits in zip(rows, given, strict=True):
        scores, interval = song_scores(logits, truth, song)
        row |= {"accuracy": 100 * scores.accuracy, "accuracy_low": 100 * interval.low}
        row |= {"accuracy_high": 100 * interval.high, "macro_f1": 100 * scores.macro_f1, "n_clips": scores.n_clips}
    return rows


def _write(folder: Path, scored: dict[str, _Scored], found: SongWindows, options: dict[str, Any]) -> None:
    """Write songs.csv, and evaluate.csv and evaluate.json for each split, each whole or not at all."""
    songs = [
        {"song": song, "split": split, "original": label, "answer": answer}
        for split, own in scored.items()
        for song, label, answer in zip(own.songs, own.labels, own.answers, strict=True)
    ]
    write_whole(folder / "songs.csv", pd.DataFrame(songs).to_csv(index=False))
    facts = {"environment": environment(), "problems": list(found.problems), "windows": len(found.manifest)}
    facts |= {"chance": 100 / len(found.manifest.labels), "n_originals": len(found.manifest.labels)}
    for split, own in scored.items():
        target, frame = folder / f"evaluate-{split}", pd.DataFrame(own.rows)
        target.mkdir(exist_ok=True)
        write_whole(target / "evaluate.csv", frame.to_csv(index=False, float_format="%.4f"))
        text = {
            "options": {**options, "split": split, "kind": "songs"},
            **facts,
            "rows": json.loads(frame.to_json(orient="records")),
        }
        write_whole(target / "evaluate.json", json.dumps(text, indent=2) + "\n")


def _table(scored: dict[str, _Scored]) -> Table:
    table = Table(caption="a song's answer is the mean of the logits of its windows; the last epoch")
    timed = "speedup" in scored["train"].rows[0]
    for title in ("songs", "r", *(["MACs cut", "speed-up"] if timed else []), "number", "accuracy % (95 %)"):
        table.add_column(title, justify="right")
    for split, own in scored.items():
        for row in own.rows:
            cost = [f"{row['macs_cut']:.2f}x", f"{row['speedup']:.2f}x"] if timed else []
            figure = f"{row['accuracy']:.1f} ({row['accuracy_low']:.1f} to {row['accuracy_high']:.1f})"
            table.add_row(split, row["r"], *cost, str(row["n_clips"]), figure)
    return table
