"""`tome-audio bench-report`: runs of the benchmarks as tables, figures and the tables of a README."""

from __future__ import annotations

import json as json_format
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from tome_audio.cli.output import console, warn, write_whole
from tome_audio.evaluation.record_tables import build_block, count_blocks, fill_blocks, in_order, with_speed
from tome_audio.evaluation.records import (
    Results,
    machine_name,
    merge_results,
    read_run,
    read_table,
    repeated_keys,
    table_text,
    typed,
)
from tome_audio.viz.benchmarks import plot_accuracy, plot_speedup
from tome_audio.viz.figure import save_figure
from tome_audio.viz.scaling import plot_scaling
from tome_audio.viz.stages import plot_stages

_ACCURACY_MODEL = "kwt1"


@dataclass
class Report:
    """All results by table name, which of them are new, and how many rows the runs gave."""

    results: dict[str, Results]
    changed: dict[str, int]


def bench_report(
    runs: list[str], out: str = "benchmarks/results", readme: str | None = None, json: bool = False
) -> int:
    """Turn runs of the benchmarks into tables, figures and the tables of a README.

    Writes into --out one CSV per model, torch release and device, beside it a .json with the machine, versions and
    commits, and the figures. Rows measured before stay unless a run measured them again. Without RUN.json the figures
    and the README are made anew from the tables that are there.

    Args:
        runs: Files that pytest wrote with --benchmark-json.
        out: Folder for the results; made if need be.
        readme: Markdown file whose blocks, from <!-- bench:NAME --> to <!-- /bench -->, are made anew.
        json: Print one JSON object that names the files written, not a table.
    """
    folder = Path(out)
    report = _collect(runs, folder)
    frame = _frame(report.results)
    figures = dict(_figures(frame))
    readme_text = None if readme is None else _fill(Path(readme), frame, report.results, folder)
    # Nothing has been written so far: unusable input leaves everything as it was.
    written = _write_results(folder, report)
    drawn = []
    for name, figure in figures.items():
        if figure is not None:
            drawn += save_figure(figure, folder / f"{name}.png")
    if readme is not None and readme_text is not None:
        write_whole(Path(readme), readme_text)
    missing = sorted(name for name, figure in figures.items() if figure is None)
    if json:
        names = [str(path) for path in (*written, *drawn, *([readme] if readme else []))]
        console().out(json_format.dumps({"written": names, "not_drawn": missing}))
        return 0
    _print(report, drawn, missing, folder, readme)
    return 0


def _collect(runs: Iterable[str], folder: Path) -> Report:
    """Read the tables of the folder and add the runs to them, in the order given."""
    results = dict(_stored(folder))
    changed: dict[str, int] = {}
    for run in runs:
        for name, new in read_run(run).items():
            if (folder / f"{name}.csv").exists() and name not in results:
                raise ValueError(
                    f"{folder / name}.csv is a table of another kind: move it away or choose another --out"
                )
            for key in repeated_keys(new.table):
                warn(f"warning: {run}: {name} was measured twice, the later one counts: {key}")
            results[name] = merge_results(results.get(name), new)
            changed[name] = changed.get(name, 0) + len(new.table)
    if not results:
        raise ValueError(
            f"{folder} holds no benchmark table yet: give the file that pytest wrote with --benchmark-json"
        )
    return Report(results, changed)


def _stored(folder: Path) -> Iterator[tuple[str, Results]]:
    for path in sorted(folder.glob("*.csv")):
        table = read_table(path.read_text(encoding="utf-8", errors="replace"))  # may be anybody's
        if table is None:
            continue
        try:
            typed(table)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} has been damaged ({error}): restore or remove it") from error
        facts = path.with_suffix(".json")
        try:
            environments = (
                json_format.loads(facts.read_text(encoding="utf-8"))["environments"] if facts.is_file() else {}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{facts} does not hold the environments of {path.name}: restore or remove it") from error
        yield path.stem, Results(table, environments)


def _frame(results: dict[str, Results]) -> pd.DataFrame:
    """Return all records in one table, in order, with `stem`, the name of their file, and `machine`."""
    parts = []
    for stem, result in results.items():
        part = typed(result.table)
        machine = [machine_name(*pair) for pair in zip(part["torch"], part["device"], strict=True)]
        parts.append(part.assign(stem=stem, machine=machine))
    return in_order(pd.concat(parts, ignore_index=True))


def _figures(frame: pd.DataFrame) -> Iterator[tuple[str, Figure | None]]:
    for machine, part in frame.groupby("machine", sort=True):
        suites = {str(suite): rows for suite, rows in part.groupby("suite")}
        none = part.iloc[:0]
        title = f"{part['device'].iloc[0]}, torch {part['torch'].iloc[-1]}"
        accuracy = with_speed(part[part["model"] == _ACCURACY_MODEL])
        speed, scaling = suites.get("throughput", none), suites.get("scaling", none)
        heading = f"{_ACCURACY_MODEL}, {title}"
        yield f"accuracy_macs-{machine}", plot_accuracy(accuracy, "macs_cut", heading)
        yield f"accuracy_speedup-{machine}", plot_accuracy(accuracy, "speedup", heading)
        for dtype in ("float32", "bfloat16"):
            yield f"speedup_macs-{dtype}-{machine}", plot_speedup(speed, dtype, f"{dtype}, {title}")
        for suite in ("end_to_end", "merge_overhead"):
            yield f"stages-{suite}-{machine}", plot_stages(suites.get(suite, none), f"{_STAGES[suite]}: {title}")
        for dtype in ("float32", "bfloat16"):
            yield f"scaling-{dtype}-{machine}", plot_scaling(scaling[scaling["dtype"] == dtype], f"{dtype}, {title}")


_STAGES = {"end_to_end": "From waveform to labels", "merge_overhead": "Inside a block that merges"}


def _fill(path: Path, frame: pd.DataFrame, results: dict[str, Results], folder: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: --readme takes a Markdown file with <!-- bench:NAME --> blocks")
    try:
        text = path.read_bytes().decode("utf-8")
        if not count_blocks(text):
            warn(f"warning: {path} has no <!-- bench:NAME --> block, so nothing in it changes")
        return fill_blocks(text, lambda name: build_block(name, frame, _place(results, folder, path.parent)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _place(results: dict[str, Results], folder: Path, base: Path) -> Callable[[pd.DataFrame], str]:
    """Return what says in one line where records were measured, and in which files they are."""

    def describe(rows: pd.DataFrame) -> str:
        machines: dict[str, None] = {}
        for stem, commit, name in rows[["stem", "commit", "device"]].drop_duplicates().itertuples(index=False):
            for run in results[stem].environments.get(commit, []):
                cpu = f"{run.get('cpu', 'CPU')}, threads: {run.get('threads', '?')}"
                device = cpu if name == "cpu" else name  # a run on the CPU of a machine with a GPU names both
                machines[f"{device}, torch {run.get('torch', '?')}, commit {commit}"] = None
        files = ", ".join(f"`{_relative(folder, base)}/{stem}.csv`" for stem in sorted(rows["stem"].unique()))
        return f"Measured on {'; '.join(machines) or rows['device'].iloc[0]}. Files: {files}."

    return describe


def _relative(folder: Path, base: Path) -> str:
    return Path(os.path.relpath(folder, base)).as_posix()


def _write_results(folder: Path, report: Report) -> list[Path]:
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in report.changed:
        table, environments = report.results[name]
        for path, text in (
            (folder / f"{name}.csv", table_text(table)),
            (folder / f"{name}.json", json_format.dumps({"environments": environments}, indent=2) + "\n"),
        ):
            write_whole(path, text)
            written.append(path)
    return written


def _print(report: Report, drawn: list[Path], missing: list[str], folder: Path, readme: str | None) -> None:
    if report.changed:
        table = Table(title=f"in {folder}", title_justify="left")
        for column in ("table", "rows measured", "rows now"):
            table.add_column(column, justify="left" if column == "table" else "right")
        for name, count in report.changed.items():
            table.add_row(f"{name}.csv, .json", str(count), str(len(report.results[name].table)))
        console().print(table)
    for path in drawn:
        if path.suffix == ".png":
            console().print(f"drawn: {path}, .svg")
    for name in missing:
        console().print(f"not drawn, no run has measured it: {name}")
    if readme is not None:
        console().print(f"written: {readme}")
