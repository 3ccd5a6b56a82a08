"""Draw the tables of `rules.py`, and print them in short as markdown.

    python benchmarks/rules_figure.py "KWT-1=rules-kwt1-torch2.11-cpu.csv" --out rules-torch2.11-cpu.png

Paths are relative to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from merging.figure import chosen, draw, idea, summary

from tome_audio.viz.figure import save_figure

RESULTS = Path(__file__).parent / "results"


def to_markdown(tables: dict[str, pd.DataFrame]) -> str:
    """Return a line per idea that was judged on a model: mean change, schedules surely better and worse, same label."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    judged = set()
    for name, table in tables.items():
        for row in summary(table).to_dict("records"):
            key = (row["group"], idea(row["rule"]))
            cell = f"{row['percent']:+.0f} % ({row['better']}, {row['worse']} of {row['schedules']})"
            if row["part"] == "judge":
                judged.add(key)
                lines.setdefault(key, {})[name] = f"{cell} | {row['agreement_diff']:+.2f}"
            else:
                lines.setdefault(key, {})[name] = f"{cell} † | "
    head = "| varied | rule |" + "".join(f" {name}: divergence | same label |" for name in tables)
    out = [head, "|" + " --- |" * head.count(" |")]
    for (group, rule), cells in lines.items():
        if group != "default" and (group, rule) in judged:
            out.append(f"| {group} | {rule} | " + " | ".join(cells.get(name, " | ") for name in tables) + " |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="NAME=TABLE.csv")
    parser.add_argument("--out", required=True, help="name of the figure, such as rules-torch2.11-cpu.png")
    args = parser.parse_args()
    named = dict(text.split("=", 1) for text in args.tables)
    tables = {name: chosen(pd.read_csv(RESULTS / path)) for name, path in named.items()}
    save_figure(draw(tables), RESULTS / args.out)
    print(to_markdown(tables))


if __name__ == "__main__":
    main()
