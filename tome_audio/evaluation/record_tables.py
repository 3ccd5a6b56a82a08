"""Markdown tables of benchmark records, and the blocks of a Markdown file that they fill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tome_audio.evaluation.record_fields import METHODS
from tome_audio.evaluation.records import rate_order

NOTHING = "No run has been recorded yet."

_SPEEDUPS = ["speedup", "speedup_low", "speedup_high"]
_VARIANT = ["method", "r", "dtype", "compiled", "prefix_only", "n_tokens"]
_SUITES = {"speed": "throughput", "training": "training_step", "overhead": "merge_overhead"}
_START = re.compile(r"<!-- bench:(\S*) -->")
_END = "<!-- /bench -->"


def fill_blocks(text: str, build: Callable[[str], str]) -> str:
    """Return the text with everything between `<!-- bench:NAME -->` and `<!-- /bench -->` made anew.

    Args:
        text: of a Markdown file.
        build: returns what belongs in the block of a name in `BLOCKS`.

    Raises:
        ValueError: if a name is unknown, or a marker stands alone.
    """
    parts, at = [], 0
    while start := _START.search(text, at):
        name = start.group(1)
        if name not in BLOCKS:
            raise ValueError(f"unknown block bench:{name}; known are {', '.join(BLOCKS)}")
        end, following = text.find(_END, start.end()), _START.search(text, start.end())
        if end < 0 or (following and following.start() < end):
            raise ValueError(f"the block bench:{name} has no end: write {_END} after it")
        parts.append(f"{_between(text, at, start.end())}\n{build(name)}\n{_END}")
        at = end + len(_END)
    return "".join(parts) + _between(text, at, len(text))


def count_blocks(text: str) -> int:
    """Return how many blocks the text has."""
    return len(_START.findall(text))


def with_speed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy records, each with the speed-up measured for the same setting.

    Of two records of one setting the one with more clips counts. A record that has its own speed-up keeps it. Otherwise
    it is the one from the throughput suite at the same batch, or else at the largest batch that was timed;
    `speed_batch` says which.
    """
    accuracy = frame[frame["suite"] == "accuracy"].sort_values("n_clips", kind="stable")
    accuracy = accuracy.drop_duplicates(["machine", "model", *_VARIANT], keep="last").sort_index()
    timed = frame[(frame["suite"] == "throughput") & frame["speedup"].notna()]
    accuracy["speed_batch"] = accuracy["batch"].where(accuracy["speedup"].notna())
    for i, row in accuracy[accuracy["speedup"].isna()].iterrows():
        same = timed[(timed["model"] == row["model"]) & (timed["machine"] == row["machine"])]
        batch = row["batch"] if (same["batch"] == row["batch"]).any() else same["batch"].max()
        match = same[(same[_VARIANT] == row[_VARIANT]).all(axis=1) & (same["batch"] == batch)]
        if len(match):
            for column in _SPEEDUPS:
                accuracy.loc[i, column] = match[column].iloc[-1]
            accuracy.loc[i, "speed_batch"] = batch
    return accuracy


def against_unfused(frame: pd.DataFrame) -> pd.Series:
    """Return, for each record, its speed-up over that of merging with unfused attention at equal r; none is NaN."""
    columns = ["machine", "suite", "model", "batch", "r", "dtype", "compiled", "n_tokens"]
    unfused = frame[frame["method"] == "merged-unfused"].drop_duplicates(columns, keep="last").set_index(columns)
    keys = pd.MultiIndex.from_frame(frame[columns])
    return pd.Series(frame["speedup"].to_numpy() / unfused["speedup"].reindex(keys).to_numpy(), index=frame.index)


def build_block(name: str, frame: pd.DataFrame, place: Callable[[pd.DataFrame], str]) -> str:
    """Return the Markdown of one block of `BLOCKS`, a table per machine.

    Args:
        name: of the block.
        frame: all records, with the column `machine`.
        place: says where the given records were measured, in one line.
    """
    rows = _select(name, frame.assign(against_unfused=against_unfused(frame)))
    if rows.empty:
        return NOTHING
    groups = [group for _, group in rows.groupby("machine", sort=True)]
    return "\n\n".join(f"{place(group)}\n\n{markdown(group, BLOCKS[name])}" for group in groups)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the records sorted for a reader: by model and length, then options and sizes, then method and r."""
    keys = {
        i: (
            _length_apart(row["model"]),
            row["dtype"] != "float32",
            row["compiled"],
            row["n_tokens"] if row["suite"] == "scaling" else 0,
            row["batch"],
            METHODS.index(row["method"]) if row["method"] in METHODS else len(METHODS),
            row["method"],
            row["prefix_only"],
            rate_order(row["r"]),
        )
        for i, row in frame.iterrows()
    }
    return frame.loc[sorted(keys, key=lambda i: keys[i])]


def markdown(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """Return a Markdown table of the given columns of `FORMATS`; a column without any entry is left out."""
    cells = {name: [_text(name, row) for row in frame.to_dict("records")] for name in columns}
    cells = {name: entries for name, entries in cells.items() if any(entries)}
    lines = [_line(FORMATS[name][0] for name in cells), _line("---" for _ in cells)]
    return "\n".join([*lines, *(_line(entries) for entries in zip(*cells.values(), strict=True))])


def _text(name: str, row: Mapping[Any, Any]) -> str:
    value = row.get(name, row)
    return "" if value is None or value != value else FORMATS[name][1](row)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _between(text: str, start: int, end: int) -> str:
    part = text[start:end]
    if _END in part:
        raise ValueError(f"{_END} stands in line {text[: start + part.index(_END)].count(chr(10)) + 1} without a start")
    return part


def _select(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    if name in ("rivals", "accuracy"):
        rows = with_speed(frame[frame["model"] == "kwt1"])
        return rows if name == "rivals" else rows[rows["method"].isin(["unpatched", "merged"])]
    rows = frame[frame["suite"] == _SUITES.get(name, name)]
    if name == "speed":
        # The unpatched model in bfloat16 says how much of the gain against float32 is not merging's.
        is_shown = (rows["method"] == "merged") | ((rows["method"] == "unpatched") & rows["speedup_fp32"].notna())
        return rows[is_shown & rows["model"].str.startswith(("ast_", "hf_ast"))]
    return rows if name in ("end_to_end", "size_bias") else rows[rows["method"] != "unpatched"]


def _length_apart(model: str) -> list[tuple[int, str]]:
    """Return a key that sorts ast_base-128 before ast_base-1024."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", model)]


def _options(row: Mapping[Any, Any]) -> str:
    return ", ".join(word for flag, word in (("compiled", "compiled"), ("prefix_only", "prefix rows")) if row[flag])


def _spread(name: str) -> Callable[[Mapping[Any, Any]], str]:
    def write(row: Mapping[Any, Any]) -> str:
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        spread = "" if low is None or low != low or high != high else f" ({low:.2f} to {high:.2f})"
        return f"{row[name]:.2f}x{spread}"

    return write


def _number(name: str, form: str, factor: float = 1.0) -> Callable[[Mapping[Any, Any]], str]:
    return lambda row: form.format(row[name] * factor)


def _mebibytes(name: str) -> Callable[[Mapping[Any, Any]], str]:
    return lambda row: f"{row[name] * 2**-20:.{1 if row[name] < 2**27 else 0}f}"


def _plain(name: str) -> Callable[[Mapping[Any, Any]], str]:
    return lambda row: str(row[name])


# Column: heading, and what writes the cell of a record.
FORMATS: dict[str, tuple[str, Callable[[Mapping[Any, Any]], str]]] = {
    **{name: (name, _plain(name)) for name in ("model", "method", "dtype")},
    "r": ("r", lambda row: "-" if row["method"] in ("unpatched", "stride-16") else row["r"]),
    "r_or_unpatched": ("r", lambda row: "unpatched" if row["method"] == "unpatched" else row["r"]),
    "batch": ("batch", _number("batch", "{:.0f}")),
    "options": ("options", _options),
    "n_tokens": ("tokens", _number("n_tokens", "{:.0f}")),
    "tokens_left": ("tokens left", _number("tokens_left", "{:.0f}")),
    "macs_cut": ("MACs cut", _number("macs_cut", "{:.2f}x")),
    "speedup": ("speed-up (quartiles)", _spread("speedup")),
    "speedup_fp32": ("against float32", _spread("speedup_fp32")),
    "against_unfused": ("against unfused, 2023", _number("against_unfused", "{:.2f}x")),
    "clips_per_second": ("clips/s", _number("clips_per_second", "{:.1f}")),
    "accuracy": ("accuracy %", _number("accuracy", "{:.2f}")),
    "accuracy_spoken": ("spoken %", _number("accuracy_spoken", "{:.2f}")),
    "agreement": ("same top label %", _number("agreement", "{:.2f}")),
    "speed_batch": ("timed at batch", _number("speed_batch", "{:.0f}")),
    "overhead": ("matching and merging, % of block time", _number("overhead", "{:.1f}", 100)),
    "latency_ratio": ("median latency", _number("latency_ratio", "{:.2f}x")),
    "latency_p95_ratio": ("95th percentile", _number("latency_p95_ratio", "{:.2f}x")),
    "latency_median_ms": ("median ms", _number("latency_median_ms", "{:.2f}")),
    "latency_p95_ms": ("95th percentile ms", _number("latency_p95_ms", "{:.2f}")),
    "end_to_end_share": ("of model-only throughput %", _number("end_to_end_share", "{:.0f}", 100)),
    "peak_bytes": ("peak MiB", _mebibytes("peak_bytes")),
    "baseline_peak_bytes": ("unpatched", _mebibytes("baseline_peak_bytes")),
    "training_peak_bytes": ("in training, peak MiB", _mebibytes("training_peak_bytes")),
    "baseline_training_peak_bytes": ("unpatched in training", _mebibytes("baseline_training_peak_bytes")),
}

_SETTING = ("model", "method", "batch", "dtype", "r", "options")
_GAIN = ("macs_cut", "speedup", "speedup_fp32")

# Block: its columns.
BLOCKS: dict[str, tuple[str, ...]] = {
    "speed": (
        "model", "batch", "dtype", "r_or_unpatched", "options", "tokens_left", *_GAIN, "against_unfused",
        "clips_per_second",
    ),
    "rivals": (
        "method", "r", "dtype", "options", "macs_cut", "accuracy", "accuracy_spoken", "agreement", "speedup",
        "speed_batch",
    ),
    "accuracy": ("r_or_unpatched", "macs_cut", "accuracy", "accuracy_spoken", "agreement", "speedup", "speed_batch"),
    "overhead": (*_SETTING, "n_tokens", "overhead"),
    "latency": (
        *_SETTING, "macs_cut", "speedup", "latency_ratio", "latency_p95_ratio", "latency_median_ms", "latency_p95_ms",
    ),
    "training": (*_SETTING, *_GAIN, "clips_per_second"),
    "end_to_end": (*_SETTING, *_GAIN, "end_to_end_share", "clips_per_second"),
    "memory": (
        *_SETTING, "macs_cut", "peak_bytes", "baseline_peak_bytes", "training_peak_bytes",
        "baseline_training_peak_bytes",
    ),
    "size_bias": (*_SETTING, "n_tokens", *_GAIN),
    "scaling": ("model", "n_tokens", "method", "batch", "dtype", "r", "options", *_GAIN),
}  # fmt: skip
