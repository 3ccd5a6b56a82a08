"""What each rule does to the answers, beside the default: tables of `rules.py` in short, and as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LIMIT = 60


def best_of_ideas(table: pd.DataFrame) -> dict[str, float]:
    """Return the rules that were best on the clips to choose on, one of those that differ in numbers only.

    Best is the lowest mean over schedules of the mean root divergence, as a part of the default's: the value here.
    """
    table = table.assign(idea=[idea(name) for name in table["rule"]], ratio=_ratio(table))
    means = table[table["part"] == "choose"].groupby(["group", "idea", "rule"])["ratio"].mean().reset_index()
    best = means.loc[means.groupby(["group", "idea"])["ratio"].idxmin()]
    return dict(zip(best["rule"], best["ratio"], strict=True))


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the best rule of each idea: those of the judging clips, or of the others where not judged."""
    rows = table.assign(ratio=_ratio(table))[table["rule"].isin(list(best_of_ideas(table)))]
    judged = set(rows.loc[rows["part"] == "judge", "rule"])
    return rows[(rows["part"] == "judge") | ~rows["rule"].isin(judged)]


def idea(rule: str) -> str:
    """Return the name of a rule without its numbers."""
    return re.sub(r"\d+(\.\d+)?%?", "…", rule)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per rule: the means over schedules of its differences from the default, and how many are sure.

    `percent` is that of the root divergence; `better` and `worse` count schedules more than two standard errors away.
    """
    sure = table["root_kl_diff"].abs() > 2 * table["root_kl_diff_se"]
    table = table.assign(
        percent=100 * (table["ratio"] - 1),
        better=sure & (table["root_kl_diff"] < 0),
        worse=sure & (table["root_kl_diff"] > 0),
    )
    what = {"part": "first", "percent": "mean", "better": "sum", "worse": "sum", "r": "count"}
    whole = table.groupby(["group", "rule"], sort=False).agg({**what, "agreement_diff": "mean", "lost_diff": "mean"})
    return whole.rename(columns={"r": "schedules"}).reset_index()


def draw(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw one panel per model: rules down, schedules across, percent more (red) or less (blue) divergence."""
    tables = {name: table[table["group"] != "default"] for name, table in tables.items()}
    rows = {name: _order(table) for name, table in tables.items()}
    tallest = max(len(names) for names in rows.values())
    figure = Figure(figsize=(8.2 * len(tables), 1.8 + 0.235 * tallest), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        _panel(axes, table, rows[name])
        axes.set_title(name, fontsize=10)
    figure.suptitle(
        "Root divergence from the unmerged model, % against the default on the same clips\n"
        "(blue: nearer; grey number: within two standard errors; †: not judged, shown on the clips to choose on)",
        fontsize=11,
    )
    return figure


def _panel(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    rates = sorted(table["r"].unique(), key=lambda rate: table.loc[table["r"] == rate, "macs_cut"].iloc[0])
    grid = np.full((len(names), len(rates)), np.nan)
    for row in table.to_dict("records"):
        place = names.index(row["rule"]), rates.index(row["r"])
        grid[place] = percent = 100 * (row["ratio"] - 1)
        sure = abs(row["root_kl_diff"]) > 2 * row["root_kl_diff_se"]
        colour = "0.55" if not sure else "white" if abs(percent) > 40 else "black"
        axes.text(place[1], place[0], f"{percent:+.0f}", ha="center", va="center", fontsize=6.5, color=colour)
    axes.imshow(grid, cmap="RdBu_r", vmin=-_LIMIT, vmax=_LIMIT, aspect="auto")
    axes.set_xticks(range(len(rates)), [f"{rate}" for rate in rates], fontsize=7, rotation=30, ha="right")
    judged = set(table.loc[table["part"] == "judge", "rule"])
    axes.set_yticks(range(len(names)), [name if name in judged else f"{name} †" for name in names], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    groups = [table.loc[table["rule"] == name, "group"].iloc[0] for name in names]
    for line in range(1, len(names)):
        if groups[line] != groups[line - 1]:
            axes.axhline(line - 0.5, color="0.3", lw=0.8)


def _order(table: pd.DataFrame) -> list[str]:
    """Return the rules, groups in the order of the table, the best of each group first."""
    rules = table.groupby("rule").agg(group=("group", "first"), ratio=("ratio", "mean"))
    groups = list(dict.fromkeys(table["group"]))
    groups.sort(key=lambda name: name.startswith("before"))
    return sorted(rules.index, key=lambda name: (groups.index(rules.at[name, "group"]), rules.at[name, "ratio"]))


def _ratio(table: pd.DataFrame) -> pd.Series:
    return table["root_kl"] / (table["root_kl"] - table["root_kl_diff"])
