"""`tome-audio sampleid evaluate`: songs against all references of a world, over several r."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.table import Table
from torch import Tensor

from tome_audio.audio.reading import AudioError
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.evaluate import UNPATCHED
from tome_audio.cli.output import console, progress, write_whole
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.cli.sampleid.answers import Answered, Asked, Part, answer_songs, find_asked, find_tables
from tome_audio.cli.sampleid.embedders import load_song_embedder
from tome_audio.cli.sampleid.indexed import model_name
from tome_audio.cli.sampleid.query import scoring_facts
from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import SampleTable
from tome_audio.evaluation.sample_id import SampleIdScores, ranking_rows, score_answers
from tome_audio.merge import Rate
from tome_audio.patch import describe, trace
from tome_audio.profiling import environment, interleaved, ratio
from tome_audio.retrieval import AlignOptions, Calibration, VoteOptions, calibrate, stream_windows, write_calibration

_VOTES, _ALIGN = VoteOptions(), AlignOptions()
_TURNS = 7
_SHOWN = ("mean_ap", "hit_rate_1", "hit_rate_10", "median_rank", "auroc", "fpr_at_95_tpr", "localised")


def evaluate(
    model: str,
    data: str,
    out: str = "runs/sampleid/evaluate",
    audio: str | None = None,
    part: Part = "test",
    r: str = UNPATCHED,
    threshold_part: Part | None = None,
    false_alarms: float = 0.05,
    within: float = 5.0,
    n_heard: int = 10,
    batch_size: int = 32,
    seed: int = 0,
    threads: int | None = None,
    transpositions: tuple[float, ...] = (0.0,),
    tempi: tuple[float, ...] = (1.0,),
    votes: VoteOptions = _VOTES,
    align: AlignOptions = _ALIGN,
) -> int:
    """Score retrieval over several r: mAP over full rankings, hit rates, songs without a sample, places, cost.

    All originals and distractors of a world's part are indexed, and all its songs asked. An index in --out is used
    again. Speed-up is that of embedding windows, against the unpatched model in turn. Writes evaluate.csv, matches.csv
    (the first references of every song), songs.csv and evaluate.json.

    Args:
        model: A checkpoint of `tome-audio sampleid train`, or one that classifies.
        data: A world of `tome-audio sampleid generate`, or a folder with Sample100's samples.csv and tracks.csv.
        out: Folder for the indices and results; made if need be.
        audio: Folder of audio files named by track id; none where the world holds them.
        part: Whose songs are asked and whose references are ranked; data without parts is taken whole.
        r: Settings to compare, such as 0,2x,3x; unpatched scores the model as it is.
        threshold_part: Part whose songs fix the threshold for "no sample found", such as valid; none fixes none.
        false_alarms: Largest part of its songs without a sample that may pass the threshold.
        within: Largest error of a place that counts as right, in seconds.
        n_heard: References per song that are looked at closely, and written.
        batch_size: Windows per forward pass.
        seed: Of the bootstrap.
        threads: CPU threads; none leaves PyTorch's choice.
        transpositions: Semitones that are tried for a song, such as [-2,-1,0,1,2].
        tempi: Tempo ratios that are tried for a song, each with every transposition.
        votes: How windows that match are counted.
        align: How the references with most votes are aligned with a song; that decides between them.
    """
    rates: list[Rate | None] = [None] if r == UNPATCHED else [*parse_rates(r)]
    check_counts(batch_size=batch_size, n_heard=n_heard)
    if not 0 <= false_alarms < 1:
        raise ValueError(f"--false_alarms must be a part of the songs in [0, 1), got {false_alarms}")
    use_threads(threads)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    table = find_tables(data, audio)
    asked = find_asked(table, part)
    heldout = None if threshold_part is None else find_asked(table, threshold_part)
    settings = _Settings(votes, align, n_heard, batch_size, within, seed, false_alarms, transpositions, tempi)
    runs = [_run(rate, model, table, asked, heldout, folder, settings) for rate in rates]
    if rates != [None]:
        _add_cost(runs, load_song_embedder(model, None), _some_windows(runs[0].embedder, asked, batch_size))
    _add_index_time(runs, folder)
    options: dict[str, Any] = {
        "model": model,
        "data": data,
        "audio": audio,
        "split": part,
        "r": r,
        "threshold_part": threshold_part,
    }
    options |= {**asdict(settings), "threads": torch.get_num_threads()}
    _write(folder, table, runs, options)
    console().print(_table(runs))
    console().print(f"written: {folder}/evaluate.csv, matches.csv, songs.csv, evaluate.json")
    return 1 if asked.missing or any(run.answered.problems for run in runs) else 0


@dataclass(frozen=True)
class _Settings:
    votes: VoteOptions
    align: AlignOptions
    n_heard: int
    batch_size: int
    within: float
    seed: int
    false_alarms: float
    transpositions: tuple[float, ...]
    tempi: tuple[float, ...]


@dataclass(frozen=True)
class _Run:
    """One r: its embedder, the answers of the part that is scored, and the row of the table."""

    label: str
    embedder: Any
    answered: Answered
    scores: SampleIdScores
    row: dict[str, Any]


def _run(
    rate: Rate | None,
    model: str,
    table: SampleTable,
    asked: Asked,
    heldout: Asked | None,
    folder: Path,
    settings: _Settings,
) -> _Run:
    """Ask all songs of the part, and of the other one that fixes the threshold, and score the answers."""
    embedder = load_song_embedder(model, rate, transpositions=settings.transpositions, tempi=settings.tempi)
    label = UNPATCHED if rate is None else rate_name(rate)
    facts = scoring_facts(settings.votes, settings.align, embedder.hop, embedder)
    with progress() as bars:
        answered, *others = [
            answer_songs(
                own, embedder, _index_folder(folder, own.part, label), settings.votes, settings.align, bars,
                label=f"r = {label}, {own.part}", model={"name": model_name(model), "r": label},
                facts=facts, n_heard=settings.n_heard, batch_size=settings.batch_size,
            )
            for own in ([asked] if heldout is None else [asked, heldout])
        ]  # fmt: skip
    scores = score_answers(table, answered.answers, answered.references, within=settings.within, seed=settings.seed)
    row: dict[str, Any] = {"r": label, "n_clips": len(scores.songs), "n_without": scores.n_without}
    row |= {"n_references": scores.n_references, "n_left_out": len(scores.left_out), **scores.figures()}
    row |= {"n_hits": scores.localisation.n_hits, "n_windows": answered.n_windows}
    row["index_seconds"] = answered.index_seconds
    for other in others:
        chosen = _threshold(table, other, embedder, settings)
        write_calibration(_index_folder(folder, asked.part, label), chosen)
        row |= _at_threshold(table, answered, chosen.threshold)
    return _Run(label, embedder, answered, scores, row)


def _index_folder(folder: Path, part: str, label: str) -> Path:
    return folder / f"index-{part}-{re.sub(r'[^A-Za-z0-9.]+', '_', label).strip('_')}"


def _threshold(table: SampleTable, answered: Answered, embedder: Any, settings: _Settings) -> Calibration:
    with_sample, without = _best_scores(table, answered)
    if not without:
        raise DataError("a threshold needs songs without a sample: choose another --threshold_part")
    return calibrate(
        without, with_sample, rate=settings.false_alarms, n_references=len(answered.references),
        votes=scoring_facts(settings.votes, settings.align, embedder.hop, embedder),
    )  # fmt: skip


def _at_threshold(table: SampleTable, answered: Answered, threshold: float) -> dict[str, float | None]:
    """Return the threshold, and the parts of the songs with and without a sample that pass it."""
    passed = [
        sum(score > threshold for score in own) / len(own) if own else None for own in _best_scores(table, answered)
    ]
    return {"threshold": threshold, "found": passed[0], "false_alarms": passed[1]}


def _best_scores(table: SampleTable, answered: Answered) -> tuple[list[float], list[float]]:
    with_sample = [answer.best_score for answer in answered.answers if table.originals_of(answer.song)]
    without = [answer.best_score for answer in answered.answers if not table.originals_of(answer.song)]
    return with_sample, without


def _some_windows(embedder: Any, asked: Asked, batch_size: int) -> Tensor:
    """Return a batch of windows of references."""
    parts: list[Tensor] = []
    for track in asked.references:
        assert track.path is not None  # find_asked has seen it
        try:
            parts += [windows.values for windows in stream_windows(track.path, embedder, batch_size=batch_size)]
        except AudioError:
            continue
        if sum(map(len, parts)) >= batch_size:
            break
    return torch.cat(parts)[:batch_size]


@torch.inference_mode()
def _add_cost(runs: Sequence[_Run], unpatched: Any, windows: Tensor) -> None:
    """Add how many times fewer MACs and how much faster windows are embedded, all r in turn."""
    calls = {run.label: partial(run.embedder.embed, windows) for run in runs}
    seconds = interleaved({UNPATCHED: partial(unpatched.embed, windows), **calls}, turns=_TURNS)
    for run in runs:
        with trace(run.embedder.network) as traces:
            run.embedder.embed(windows[:1])
        speedup, low, high = ratio(seconds[UNPATCHED], seconds[run.label])
        rate = len(windows) / float(pd.Series(seconds[run.label]).median())
        run.row["macs_cut"] = describe(run.embedder.network, traces[0].n_tokens).macs_cut
        run.row.update(speedup=speedup, speedup_low=low, speedup_high=high, windows_per_second=rate)


def _add_index_time(runs: Sequence[_Run], folder: Path) -> None:
    """Take the seconds of an index that was there from the results beside it, and set all against the first r."""
    path = folder / "evaluate.csv"
    earlier = pd.read_csv(path, dtype={"r": str}).set_index("r").to_dict("index") if path.is_file() else {}
    for run in runs:
        seconds = run.row["index_seconds"] or earlier.get(run.label, {}).get("index_seconds")
        run.row["index_seconds"] = seconds
        first = runs[0].row["index_seconds"]
        run.row["index_time"] = seconds / first if seconds and first else None


def _write(folder: Path, table: SampleTable, runs: Sequence[_Run], options: dict[str, Any]) -> None:
    """Write evaluate.csv, matches.csv, songs.csv and evaluate.json, each whole or not at all."""
    matches = pd.DataFrame(
        [{"r": run.label, **row} for run in runs for row in ranking_rows(table, run.answered.answers)]
    )
    if len(runs[0].embedder.variant_facts) == 1:  # nothing was tried, so nothing is known of it
        matches = matches.drop(columns=["semitones", "tempo_ratio"])
    songs = [
        {"r": run.label, "song": answer.song, "has_sample": bool(table.originals_of(answer.song)), "best_score": best}
        for run in runs
        for answer in run.answered.answers
        for best in [answer.best_score]
    ]
    rows = pd.DataFrame([run.row for run in runs])
    write_whole(folder / "evaluate.csv", rows.to_csv(index=False, float_format="%.6g"))
    write_whole(folder / "matches.csv", matches.to_csv(index=False, float_format="%.6g"))
    write_whole(folder / "songs.csv", pd.DataFrame(songs).to_csv(index=False, float_format="%.6g"))
    facts: dict[str, Any] = {"options": options, "environment": environment()}
    facts["problems"] = sorted({problem for run in runs for problem in run.answered.problems})
    facts["left_out"] = list(runs[0].scores.left_out)
    facts["rows"] = json.loads(rows.to_json(orient="records"))
    write_whole(folder / "evaluate.json", json.dumps(facts, indent=2) + "\n")


def _table(runs: Sequence[_Run]) -> Table:
    first = runs[0].row
    caption = (
        f"{first['n_clips']} songs with a sample, {first['n_without']} without, {first['n_references']} references"
    )
    table = Table(caption=caption)
    names = [name for name in ("macs_cut", "speedup", *_SHOWN, "found", "false_alarms") if name in first]
    for title in ("r", *(name.replace("_", " ") for name in names)):
        table.add_column(title, justify="right")
    for run in runs:
        cells = ["" if run.row[name] is None else f"{run.row[name]:.3f}" for name in names]
        table.add_row(run.label, *cells)
    return table
