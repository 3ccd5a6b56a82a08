"""How a measured method is named and drawn: the same colour and mark in every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

# Colours of Okabe and Ito, which stay apart for colour-blind readers; the marks say the same once more.
_STYLES = {
    "unpatched": ("#000000", "*"),
    "merged": ("#0072B2", "o"),
    "merged-unfused": ("#D55E00", "s"),
    "merged-random": ("#E69F00", "v"),
    "topk-class": ("#009E73", "^"),
    "random-drop": ("#CC79A7", "X"),
    "stride-16": ("#56B4E9", "P"),
}
_OTHER = ("#7F7F7F", "h")
_NAMES = {
    "merged": "merged (ours)",
    "merged-unfused": "merged, unfused attention (2023)",
    "merged-random": "merged at random",
    "topk-class": "top-k by class attention",
    "random-drop": "random drop",
    "stride-16": "patch stride 16",
}
SERIES = ["method", "is_list", "dtype", "compiled", "prefix_only"]


def with_series(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the records with what tells their series apart: `label`, `is_list` and `is_whole`.

    `is_list`: r is a number per block. `is_whole`: the last block computes all rows, while other records of the method
    compute the prefix alone. An option that all records of one method share is not part of their names.
    """
    some_prefix_only = frame["prefix_only"].groupby(frame["method"]).transform("any")
    frame = frame.assign(
        is_list=frame["r"].str.startswith(("[", "(")), is_whole=some_prefix_only & ~frame["prefix_only"]
    )
    labels = []
    for row in frame.to_dict("records"):
        peers = frame[frame["method"] == row["method"]]
        varied = {name for name in ("dtype", "compiled", "prefix_only") if peers[name].nunique() > 1}
        labels.append(_label(row, varied))
    return frame.assign(label=labels)


def style(series: Mapping[Any, Any]) -> dict[str, Any]:
    """Return matplotlib's keywords for the points and lines of a series."""
    colour, mark = _STYLES.get(series["method"], _OTHER)
    return {
        "color": colour,
        "marker": "D" if series["is_list"] and series["method"] == "merged" else mark,
        # Merging with and without fused attention computes the same: the larger mark shows behind the smaller one.
        "markersize": {"*": 10, "s": 8}.get(mark, 5.5),
        "zorder": 3 if series["method"] == "merged" else 2,
        "markerfacecolor": "white" if series["dtype"] != "float32" else colour,
        "fillstyle": "left" if series["is_whole"] else "full",
        "linestyle": "none" if series["is_list"] else "--" if series["compiled"] else "-",
        "linewidth": 1.2,
    }


def speed_bars(rows: pd.DataFrame, direction: str) -> dict[str, Any]:
    """Return matplotlib's keywords for error bars from the quartiles of the speed-up; no bar where they are unknown."""
    below, above = rows["speedup"] - rows["speedup_low"], rows["speedup_high"] - rows["speedup"]
    lengths = np.nan_to_num(np.stack([below.to_numpy(float), above.to_numpy(float)])).clip(min=0.0)
    return {f"{direction}err": lengths, "elinewidth": 0.8, "capsize": 2}


def short_rate(r: str) -> str:
    """Return r as text for a figure: zeros at the end of a list and what is beyond five blocks are left out."""
    if not r.startswith("["):
        return r
    parts = r.strip("[]").split(",")
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    return f"[{','.join(parts if len(parts) <= 5 else [*parts[:4], '…'])}]"


def _label(row: Mapping[Any, Any], varied: set[str]) -> str:
    words = [_NAMES.get(row["method"], row["method"])]
    if row["is_list"]:
        words.append("r per block")
    if "dtype" in varied:
        words.append(row["dtype"])
    if "compiled" in varied and row["compiled"]:
        words.append("compiled")
    if "prefix_only" in varied and row["prefix_only"]:
        words.append("prefix rows only")
    return ", ".join(words)
