"""`tome-audio fit`: schedules for a compute target, fitted to unlabelled clips."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from rich.table import Table
from torch import Tensor

from tome_audio.cli.corpora import is_manifest, manifest_clips
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.loading import NAMES, LoadedModel, load_model
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.rates import rate_name
from tome_audio.data.clips import EXTENSIONS, Clip, DataError, find_clips, load_waveforms
from tome_audio.patch.config import Matching, Metric
from tome_audio.profiling import environment
from tome_audio.search import FitOptions, Fitted, Ledger, fit_frontier
from tome_audio.search.frontier import FEWEST_CLIPS, Unit

_VERSIONS = ("tome_audio", "torch", "python", "commit")
_PLACE = "{target}"


def fit(
    model: str,
    data: str,
    target: str,
    out: str = "runs/fit",
    clips: int = 384,
    split: str = "train",
    unit: Unit = "macs",
    metric: Metric = "key",
    matching: Matching = "bipartite",
    per_block: bool = False,
    budget: int = 150,
    batch_size: int = 64,
    seed: int = 0,
    threads: int | None = None,
) -> int:
    """Fit schedules to compute targets: where to merge so that the model's answers change least.

    Labels are not used. Writes one small JSON file per target, which --r of every other command and Schedule.load take.
    A run that was stopped goes on where it was; its state lies beside the output until it is done.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        data: Folder of clips: one folder per class, FSDD, a split.csv, or any folder with audio files in it.
        target: How many times cheaper: 3, or 2,3,4,6 for several schedules in one run.
        out: A .json file for one target; for several a folder, or a name with {target} in it.
        clips: How many clips to use, drawn at random; a quarter of them decides between the best few.
        split: Which clips to draw from: train, valid, test or all.
        unit: What the target counts: macs (multiply-accumulates of the blocks) or speed (measured here).
        metric: What similarity is measured on.
        matching: Which tokens may merge in the blocks.
        per_block: Let single blocks take another metric or matching where that helps.
        budget: Passes over the clips per target; more takes longer and finds better schedules.
        batch_size: Clips per forward pass.
        seed: Of the draw of clips and of the search.
        threads: CPU threads for the model; none leaves PyTorch's choice.
    """
    targets = _targets(target)
    paths = _paths(out, targets, model)
    options = _options(unit, metric, matching, per_block, budget, batch_size, seed, clips, threads)
    loaded = load_model(model)
    if loaded.prepare is None or not loaded.trained:
        raise ValueError(f"{loaded.name} has no trained weights, or takes no audio: nothing to fit. Use\n{NAMES}")
    drawn = _draw(find_audio(data, seed), split, data, clips, seed)
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    state = _state_path(out, paths)
    inputs, errors = _inputs(loaded, drawn, batch_size)
    with progress() as bars:
        task = bars.add_task("fit", total=None)
        found = fit_frontier(
            loaded.model,
            inputs,
            targets,
            FitOptions(**options, multi_label=loaded.multi_label),
            ledger=Ledger(state),
            on_progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    versions = environment()
    for entry in found:
        facts = {"model": Path(model).name, **entry.facts(), **{k: v for k, v in options.items() if v != ()}}
        facts["versions"] = {name: versions[name] for name in _VERSIONS if name in versions}
        entry.schedule.save(paths[entry.target], {name: _rounded(value) for name, value in facts.items()})
    state.unlink(missing_ok=True)
    _print(found, paths)
    return 1 if errors else 0


def _options(
    unit: Unit, metric: Metric, matching: Matching, per_block: bool, budget: int, batch_size: int, seed: int,
    clips: int, threads: int | None,
) -> dict[str, Any]:  # fmt: skip
    check_counts(budget=budget, batch_size=batch_size)
    if clips < FEWEST_CLIPS:
        raise ValueError(f"--clips must be at least {FEWEST_CLIPS}, a few hundred are better; got {clips}")
    use_threads(threads)
    return {
        "unit": unit, "metric": metric, "matching": matching, "budget": budget, "batch_size": batch_size, "seed": seed,
        "block_matchings": tuple(name for name in ("bipartite", "adjacent") if name != matching) if per_block else (),
        "block_metrics": tuple(name for name in get_args(Metric) if name != metric) if per_block else (),
    }  # fmt: skip


def _targets(text: str) -> list[float]:
    try:
        targets = sorted({float(part.strip().removesuffix("x")) for part in str(text).split(",")})
    except ValueError:
        targets = []
    if not targets or not all(1 < target < math.inf for target in targets):
        raise ValueError(f"--target {text!r} is not understood: write numbers above 1, such as 3 or 2,3,4,6")
    return targets


def _paths(out: str, targets: Sequence[float], model: str) -> dict[float, Path]:
    """Return the file of each target."""
    if _PLACE in out:
        return {target: Path(out.replace(_PLACE, f"{target:g}")) for target in targets}
    if not out.endswith(".json"):
        return {target: Path(out) / f"{Path(model).stem}-{target:g}x.json" for target in targets}
    if len(targets) > 1:
        raise ValueError(
            f"--out {out!r} is one file for {len(targets)} targets: give a folder, or a name with {_PLACE}"
        )
    return {targets[0]: Path(out)}


def _state_path(out: str, paths: dict[float, Path]) -> Path:
    first = next(iter(paths.values()))
    name = Path(out).name.replace(_PLACE, "") if out.endswith(".json") else "fit"
    return first.parent / f".{name}.state"


def find_audio(data: str, seed: int) -> list[Clip]:
    """Return the clips of a folder in any layout that is known, or all audio files in it: nobody asks for labels."""
    if is_manifest(Path(data)):
        return list(manifest_clips(data).values())
    try:
        return find_clips(data, seed)
    except DataError:
        root = Path(data)
        if not root.is_dir() or (root / "split.csv").is_file():
            raise
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
        if not files:
            raise
        return [Clip(path, "", "train") for path in files]


def _draw(found: Sequence[Clip], split: str, data: str, n_clips: int, seed: int) -> list[Clip]:
    if split not in ("all", "train", "valid", "test"):
        raise ValueError(f"--split {split!r} is unknown; choose all, train, valid or test")
    known = [clip for clip in found if split in ("all", clip.split)]
    if len(known) < FEWEST_CLIPS:
        raise ValueError(f"{data} has {len(known)} clips in split {split!r}: fitting needs at least {FEWEST_CLIPS}")
    return known if len(known) <= n_clips else random.Random(seed).sample(known, n_clips)


def _inputs(loaded: LoadedModel, drawn: Sequence[Clip], batch_size: int) -> tuple[Tensor, int]:
    """Return the model's input for all clips that can be read, and how many cannot."""
    assert loaded.prepare is not None  # fit has seen it
    with progress() as bars:
        reading = bars.add_task("read", total=len(drawn))
        read = load_waveforms(drawn, on_progress=lambda done, _: bars.update(reading, completed=done))
    for error in read.errors:
        warn(f"error: {error}")
    starts = range(0, len(read.waveforms), batch_size)
    inputs = torch.cat([loaded.prepare(read.waveforms[start : start + batch_size]) for start in starts])
    return inputs, len(read.errors)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _print(found: Sequence[Fitted], paths: dict[float, Path]) -> None:
    table = Table(caption="divergence from the unmerged answers in nats, on the clips fitted on and on those held out")
    speed = any(entry.speedup is not None for entry in found)
    columns = ["target", "MACs cut", *(["speed-up"] if speed else []), "divergence", "held out"]
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("r", overflow="fold")
    for entry in found:
        table.add_row(
            f"{entry.target:g}x",
            f"{entry.macs_cut:.2f}x",
            *([f"{entry.speedup:.2f}x"] if entry.speedup is not None else []),
            f"{entry.divergence:.4f}",
            f"{entry.divergence_held_out:.4f}",
            rate_name(entry.schedule),
        )
        if entry.speedup is not None and entry.speedup < 0.97 * entry.target:
            warn(f"warning: {entry.target:g} times the speed was not reached on this machine: {entry.speedup:.2f}")
    console().print(table)
    console().print(f"written: {', '.join(str(path) for path in paths.values())}")
