"""Compare ways to merge on one model: CSV and JSON of every rule at every schedule, chosen and judged on other clips.

    python benchmarks/rules.py kwt1 --out benchmarks/results/rules-kwt1-torch2.11-cpu.csv
    python benchmarks/rules.py MODEL.safetensors --data FOLDER --rates "3,6x:front-loaded" --out TABLE.csv

Needs the real data (`TOME_AUDIO_DATA`). KWT-1 is scored on spoken clips of `speech_commands/split.csv`: rules and their
constants are chosen on `train` speakers, judged on `valid` and `test` speakers. Another model is scored on the clips of
--data in the same way. Of rules that differ in numbers only, the one that was best on the first stands for all; the
--judged best of these in each group are judged, if they were better than the default. The logits are kept beside the
table (`.part.pt`), so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import torch
from cases import DATA
from merging.catalogue import DEFAULT, before_blocks, in_blocks
from merging.figure import best_of_ideas
from merging.lab import Lab, Rule

from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.data.clips import find_clips, load_waveforms
from tome_audio.merge import Rate
from tome_audio.profiling import environment
from tome_audio.search.divergence import divergence

RATES = "8,10,12,(8,-1),[45,20,12,6],3x:front-loaded,4x:front-loaded,6x:front-loaded,8x:front-loaded,10x:front-loaded"
PARTS = {"choose": ("train",), "judge": ("valid", "test")}


def read_part(loaded: LoadedModel, folder: Path, splits: tuple[str, ...], most: int) -> tuple[torch.Tensor, ...]:
    """Return inputs (n, ...) and class indices (n,) of at most so many clips of these splits, the same each time."""
    names = loaded.need_labels()
    clips = [clip for clip in find_clips(str(folder)) if clip.split in splits and clip.label != "_silence_"]
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))[:most].sort().values
    read = load_waveforms([clips[i] for i in order])
    target = torch.tensor([names.index(clip.label) for clip in read.clips])
    starts = range(0, len(target), 64)
    return torch.cat([loaded.prepare(read.waveforms[start : start + 64]) for start in starts]), target


def run_rules(lab: Lab, rules: list[tuple[Rule, list[Rate]]], keep: Path) -> dict[tuple[str, str], torch.Tensor]:
    """Return the logits of each rule at each rate; what `keep` holds is not computed again."""
    answers = torch.load(keep) if keep.is_file() else {}
    for rule, rates in rules:
        todo = [rate for rate in rates if (rule.name, rate_name(rate)) not in answers]
        for rate in todo:
            answers[rule.name, rate_name(rate)] = lab.answers(rate, rule)
        if todo:
            print(rule.name, file=sys.stderr, flush=True)
            torch.save(answers, keep.with_suffix(".new"))
            keep.with_suffix(".new").replace(keep)
    return answers


def score(
    lab: Lab, target: torch.Tensor, answers: dict, rules: list[tuple[Rule, list[Rate]]], part: str
) -> pd.DataFrame:
    """Return one row per rule and rate; `_diff` is rule less default on the same clips, `_se` its standard error."""
    base = lab.base.argmax(-1)

    def per_clip(rule: str, rate: Rate) -> dict[str, torch.Tensor]:
        own = answers[rule, rate_name(rate)]
        top, far = own.argmax(-1), divergence(lab.base, own).clamp(min=0)
        lost = 100 * ((base == target).double() - (top == target).double())
        return {"lost": lost, "agreement": 100 * (top == base).double(), "kl": far, "root_kl": far.sqrt()}

    rows = []
    for rule, rates in rules:
        for rate in rates:
            own, usual = per_clip(rule.name, rate), per_clip(DEFAULT.name, rate)
            row = {"part": part, "rule": rule.name, "group": rule.group, "r": rate_name(rate), "n_clips": len(target)}
            row["macs_cut"] = round(lab.macs_cut(rate), 3)
            for name, values in own.items():
                apart = values - usual[name]
                row[name] = round(values.mean().item(), 5)
                row[f"{name}_diff"] = round(apart.mean().item(), 5)
                row[f"{name}_diff_se"] = round(apart.std().item() / len(apart) ** 0.5, 5)
            rows.append(row)
    return pd.DataFrame(rows)


def rules_for(lab: Lab, rates: list[Rate]) -> list[tuple[Rule, list[Rate]]]:
    """Return every rule with the rates at which it differs from the default."""
    bands = lab.model.grid[0] if hasattr(lab.model, "grid") else 1
    early = [rate for rate in rates if lab.amounts(rate).before]
    rules = [(DEFAULT, rates)]
    rules += [(rule, rates) for rule in in_blocks(lab.blocks[0].attn.num_heads > 1, bands)]
    return rules + [(rule, early) for rule in before_blocks(bands)]


def worth_judging(
    table: pd.DataFrame, rules: list[tuple[Rule, list[Rate]]], most: int
) -> list[tuple[Rule, list[Rate]]]:
    """Return the default and the best rules of each group, of those that beat it on the clips to choose on."""
    found, groups = best_of_ideas(table), Counter[str]()
    kept = [(rule, rates) for rule, rates in rules if rule.name == DEFAULT.name]
    for rule, rates in sorted(rules, key=lambda item: found.get(item[0].name, 1.0)):
        if found.get(rule.name, 1.0) < 1 and groups[rule.group] < most:
            groups[rule.group] += 1
            kept.append((rule, rates))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=DATA / "speech_commands")
    parser.add_argument("--rates", default=RATES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--choose", type=int, default=384, help="clips to choose on, at most")
    parser.add_argument("--judge", type=int, default=1000, help="clips to judge on, at most")
    parser.add_argument("--judged", type=int, default=3, help="rules to judge of each group, at most")
    args = parser.parse_args()
    loaded, rates = load_model(args.model), parse_rates(args.rates)
    table, facts = pd.DataFrame(), {}
    for part, most in (("choose", args.choose), ("judge", args.judge)):
        inputs, target = read_part(loaded, args.data, PARTS[part], most)
        lab = Lab(loaded.model, inputs)
        rules = rules_for(lab, rates)
        if part == "judge":
            rules = worth_judging(table, rules, args.judged)
        keep = args.out.with_suffix(f".{part}.part.pt")
        table = pd.concat([table, score(lab, target, run_rules(lab, rules, keep), rules, part)])
        facts[f"unmerged_accuracy_{part}"] = 100 * (lab.base.argmax(-1) == target).double().mean().item()
    table.to_csv(args.out, index=False)
    command = " ".join(["python benchmarks/rules.py", *sys.argv[1:]])
    facts |= {"command": command, "environment": environment()}
    args.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    for part in PARTS:
        args.out.with_suffix(f".{part}.part.pt").unlink()


if __name__ == "__main__":
    main()
