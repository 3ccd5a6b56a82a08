"""Benchmark records: read from the JSON of pytest-benchmark, kept as tables of text per model, torch and device."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tome_audio.evaluation.record_fields import (
    COLUMNS,
    ENVIRONMENT,
    FLAGS,
    KEY,
    METHODS,
    NEEDED,
    NUMBERS,
    TIMED,
    cell,
    check_record,
)

_ABSOLUTE = re.compile(r"_ms$|second")
_MILLISECONDS = ("latency_median_ms", "latency_p95_ms", "baseline_median_ms", "baseline_p95_ms")


class Results(NamedTuple):
    """One table and where its rows were measured.

    Attributes:
        table: records as text, a row each.
        environments: commit to the runs at this commit: date, command, machine and versions of each.
    """

    table: pd.DataFrame
    environments: dict[str, list[dict[str, str]]]


def read_run(path: str | Path) -> dict[str, Results]:
    """Read one pytest-benchmark JSON file and return its records by table name.

    Absolute times stay only for a GPU; for a CPU, shares and ratios are formed from them.

    Raises:
        ValueError: if the file is not such JSON, or a record lacks a field or has an unusable one.
        OSError: if the file cannot be read.
    """
    run = _parse(Path(path))
    date = re.sub(r"\.\d+", "", str(run.get("datetime") or ""))
    found, times = [], []
    for benchmark in run["benchmarks"]:
        where = f"{path}: {benchmark.get('name', 'a benchmark')}" if isinstance(benchmark, dict) else f"{path}"
        record = benchmark.get("extra_info") if isinstance(benchmark, dict) else None
        if not isinstance(record, dict):
            raise ValueError(f"{where}: has no extra_info: this is not a run of our benchmarks")
        record = {**record, "r": re.sub(r"\s", "", cell(record.get("r")))}
        check_record(record, where)
        found.append({**record, "date": date})
        times.append(_seconds_per_clip(benchmark, record, where))
    rows = [_row(record, time) for record, time in zip(found, times, strict=True)]
    _add_relative_times(found, rows, times)
    results: dict[str, Results] = {}
    for name in dict.fromkeys(table_name(record) for record in found):
        own = [i for i, record in enumerate(found) if table_name(record) == name]
        table = _table({column: cell(value) for column, value in rows[i].items()} for i in own)
        results[name] = Results(table, _environments(found[i] for i in own))
    return results


def read_table(text: str) -> pd.DataFrame | None:
    """Read a CSV that `table_text` wrote; None if it is a table of another kind."""
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError):
        return None
    return table if {*KEY, "model", "device", "torch", "commit", "date"} <= set(table.columns) else None


def table_text(table: pd.DataFrame) -> str:
    """Return the table as CSV text."""
    return table.to_csv(index=False, lineterminator="\n")


def table_name(record: Mapping[str, Any]) -> str:
    """Return the file name, without ending, of the table that a record belongs in.

    Raises:
        ValueError: if the model cannot be part of a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", record["model"]):
        raise ValueError(f"model {record['model']!r} cannot name a file: use letters, digits, '_', '-' and '.'")
    return f"{record['model']}-{machine_name(record['torch'], record['device'])}"


def machine_name(torch_version: str, device: str) -> str:
    """Return `torch2.11-cpu` for torch 2.11.0+cpu on a CPU; a GPU goes by its name."""
    release = ".".join(re.findall(r"\d+", torch_version)[:2])
    return f"torch{release}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}"


def merge_results(old: Results | None, new: Results) -> Results:
    """Return the rows of both; where their keys agree, the later one. Runs that no row comes from are left out."""
    tables = [new.table] if old is None else [old.table, new.table]
    rows = {tuple(row[name] for name in KEY): row for table in tables for row in _rows(table)}
    table = _table(rows.values())
    runs: dict[str, list[dict[str, str]]] = {}
    for part in (old, new):
        for commit, entries in (part.environments if part else {}).items():
            runs.setdefault(commit, []).extend(entry for entry in entries if entry not in runs.get(commit, []))
    present = set(zip(table["commit"], table["date"], strict=True))
    kept = {commit: [run for run in runs[commit] if (commit, run.get("date", "")) in present] for commit in runs}
    return Results(table, {commit: sorted(kept[commit], key=json.dumps) for commit in sorted(kept) if kept[commit]})


def repeated_keys(table: pd.DataFrame) -> list[str]:
    """Return the keys that more than one row of the table has; only the last of those rows will be kept."""
    twice = table[table.duplicated(list(KEY))].drop_duplicates(list(KEY))
    return [", ".join(f"{column}={row[column]}" for column in KEY) for row in twice.to_dict("records")]


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with numbers as numbers, flags as booleans and every known column present."""
    frame = table.reindex(columns=[*COLUMNS, *(c for c in table.columns if c not in COLUMNS)])
    for column in NUMBERS:
        frame[column] = pd.to_numeric(frame[column].replace("", None))
    for column in FLAGS:
        frame[column] = frame[column] == "True"
    return frame


def rate_order(r: str) -> tuple[int, list[float]]:
    """Return a key that sorts settings of r: numbers, then (r, inflection), then lists."""
    try:
        value = ast.literal_eval(r)
    except (ValueError, SyntaxError):
        return 3, []
    if isinstance(value, tuple):
        return 1, [float(part) for part in value]
    return (2, [-float(part) for part in value]) if isinstance(value, list) else (0, [float(value)])


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is not a file: give the file that pytest wrote with --benchmark-json")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}): was the run stopped? Run it again") from error
    if not isinstance(run, dict) or not isinstance(run.get("benchmarks"), list):
        raise ValueError(f"{path} has no list 'benchmarks': give the file that pytest wrote with --benchmark-json")
    if not run["benchmarks"]:
        raise ValueError(f"{path} holds no benchmarks: the run measured nothing")
    return run


def _seconds_per_clip(benchmark: Mapping[str, Any], record: Mapping[str, Any], where: str) -> float | None:
    """Return the median seconds of the benchmark over its batch; None where it times something else than a call."""
    if record["suite"] not in TIMED or not record["batch"]:
        return None
    stats = benchmark.get("stats")
    median = stats.get("median") if isinstance(stats, dict) else None
    if not isinstance(median, int | float) or not 0 < median < float("inf"):
        raise ValueError(f"{where}: stats.median is {median!r}, not seconds: was the benchmark run?")
    return float(median) / record["batch"]


def _row(record: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """Return the columns of one record: derived ones added, the environment and a CPU's absolute times left out."""
    row = {name: value for name, value in record.items() if name not in ENVIRONMENT or name == "torch"}
    if record.get("tokens"):
        row["tokens_left"] = record["tokens"][-1]
    if record.get("stages"):
        total = sum(record["stages"].values())
        row["stage_shares"] = {stage: value / total for stage, value in record["stages"].items()}
    if all(record.get(name) for name in _MILLISECONDS):
        row["latency_ratio"] = record["baseline_median_ms"] / record["latency_median_ms"]
        row["latency_p95_ratio"] = record["baseline_p95_ms"] / record["latency_p95_ms"]
    if record["device"] != "cpu":
        return row if seconds is None else {**row, "clips_per_second": 1 / seconds}
    return {name: value for name, value in row.items() if name != "stages" and not _ABSOLUTE.search(name)}


def _add_relative_times(
    records: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]], times: Sequence[float | None]
) -> None:
    """Give scaling rows their time per clip over the unpatched model's at the fewest tokens of the same run.

    A patched row has that of the unpatched model at equal tokens over its speed-up, where both are known: runs drift,
    and only the speed-up was measured in turns.
    """

    def family(i: int) -> tuple[Any, ...]:
        # ast_base-128 and ast_base-1024 are one model at two lengths.
        return (records[i]["model"].partition("-")[0], *(records[i][name] for name in ("device", "torch", "dtype")))

    scaling = [i for i, record in enumerate(records) if times[i] is not None and record["suite"] == "scaling"]
    for i in scaling:
        unpatched = [j for j in scaling if family(j) == family(i) and records[j]["method"] == "unpatched"]
        if not unpatched:
            continue
        first = min(unpatched, key=lambda j: (records[j]["n_tokens"], records[j]["compiled"]))
        same = [j for j in unpatched if all(records[j][name] == records[i][name] for name in ("n_tokens", "compiled"))]
        source, gain = (same[0], records[i].get("speedup") or 1.0) if same else (i, 1.0)
        rows[i]["relative_time"] = times[source] / times[first] / gain  # type: ignore[operator]


def _table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of text in a fixed order of columns and rows, without columns that are empty throughout."""
    ordered = sorted(rows, key=_row_order)
    used = {name for row in ordered for name, value in row.items() if value != ""}
    columns = [name for name in COLUMNS if name in used or name in KEY or name == "date"]
    columns += sorted(used - set(COLUMNS))
    return pd.DataFrame([[row.get(name, "") for name in columns] for row in ordered], columns=columns, dtype=str)


def _rows(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    suite = list(NEEDED).index(row["suite"]) if row["suite"] in NEEDED else len(NEEDED)
    method = METHODS.index(row["method"]) if row["method"] in METHODS else len(METHODS)
    options = (row["dtype"] != "float32", row["dtype"], row["compiled"], row["prefix_only"])
    sizes = (int(row["n_tokens"]), int(row["batch"]))
    return (suite, *options, *sizes, method, row["method"], *rate_order(row["r"]), row["r"])


def _environments(records: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for record in records:
        entry = {"date": record["date"], **{name: cell(record[name]) for name in ENVIRONMENT if record.get(name)}}
        if entry not in found.setdefault(record["commit"], []):
            found[record["commit"]].append(entry)
    return found
