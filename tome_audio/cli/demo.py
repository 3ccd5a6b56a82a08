"""`tome-audio demo`: train a small AST on sounds, merge its tokens, and show what that costs and gains."""

from __future__ import annotations

import copy
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import soundfile
import torch
from rich.progress import Progress
from torch import Tensor

from tome_audio.audio import ast_features
from tome_audio.audio.augment import spec_augment, time_roll
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.loading import load_model
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.sweep import batches, check_labels, sweep_table, write_results
from tome_audio.cli.visualize import draw_merged, merge_clip
from tome_audio.data.clips import Clip, DataError, LoadedClips, find_clips, load_waveforms
from tome_audio.data.corpora.sound_events import make_corpus
from tome_audio.data.statistics import feature_statistics
from tome_audio.evaluation import SweepRow, sweep
from tome_audio.merge import Rate
from tome_audio.models import AST, save_checkpoint
from tome_audio.patch import apply_patch, describe, set_r
from tome_audio.training.loop import EpochRecord, fit
from tome_audio.training.presets import DEMO, SPEECH, Preset
from tome_audio.viz.figure import save_figure

_SAMPLE_RATE = 16000
_FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class Corpus:
    """Clips to train on and clips to test on, and the labels in output order."""

    name: str
    train: LoadedClips
    test: LoadedClips
    labels: tuple[str, ...]


def demo(
    data: str | None = None,
    out: str = "runs/demo",
    epochs: int | None = None,
    clips_per_class: int = 250,
    seed: int = 0,
    threads: int | None = None,
) -> int:
    """Train a small AST, merge its tokens, and print and draw accuracy against cost.

    Without --data it trains on a generated corpus of ten sound events; with it, on your clips. Writes the checkpoint,
    the table, the trade-off figure and a spectrogram with its merged tokens into --out. A run that was stopped goes on
    where it was.

    Args:
        data: Folder of labelled clips: one folder per class, FSDD, or a split.csv (file,label,split).
        out: Folder for the results; made if need be.
        epochs: Passes over the training clips; none takes what suits the data.
        clips_per_class: Size of the generated corpus.
        seed: Of weights, order, augmentation and the generated corpus.
        threads: CPU threads; none leaves PyTorch's choice. One is steadier on a busy machine.
    """
    check_counts(epochs=epochs)
    use_threads(threads)
    folder = Path(out)
    with progress() as bars:
        corpus = _generate(clips_per_class, seed) if data is None else _read(data, seed, bars)
        preset = DEMO if data is None else _fit_length(SPEECH, corpus.train)
        if epochs is not None:
            preset = replace(preset, epochs=epochs)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "model.safetensors"
        _train(corpus, preset, seed, checkpoint, bars)
        rows = _sweep(corpus, checkpoint, bars)
    write_results(folder, rows, {"data": data or "generated", "epochs": preset.epochs, "seed": seed}, corpus.name)
    if data is None:
        _write_examples(corpus.test, folder / "examples")
    rate = _half_cost(rows)
    _draw(corpus, checkpoint, rate, folder / "merged.png")
    console().print(sweep_table(rows))
    console().print(_next_steps(folder, checkpoint, rate, corpus, data))
    errors = corpus.train.errors + corpus.test.errors
    for error in errors:
        warn(f"error: {error}")
    return 1 if errors else 0


def _generate(clips_per_class: int, seed: int) -> Corpus:
    parts = []
    # Different seeds never share a clip; a test clip has a class, pitch, level and noise of its own.
    for n_clips, part_seed in ((clips_per_class, 2 * seed), (max(1, clips_per_class // 5), 2 * seed + 1)):
        waveforms, labels = make_corpus(n_clips, seed=part_seed)
        clips = [Clip(Path(f"{label}-{i}"), label, "generated") for i, label in enumerate(labels)]
        parts.append(LoadedClips([torch.from_numpy(w) for w in waveforms], clips, []))
    return Corpus("generated sound events", parts[0], parts[1], tuple(sorted({c.label for c in parts[0].clips})))


def _read(data: str, seed: int, bars: Progress) -> Corpus:
    found = find_clips(data, seed=seed)
    parts = []
    for split in ("train", "test"):
        clips = [clip for clip in found if clip.split == split]
        if not clips:
            raise DataError(f"{data} has no clips in {split}: the demo needs some to train on and some to test on")
        task = bars.add_task(f"read {split}", total=len(clips))
        parts.append(load_waveforms(clips, on_progress=partial(_advance, bars, task)))
    labels = tuple(sorted({clip.label for clip in parts[0].clips}))
    check_labels(parts[1].clips, labels, "the training part")
    return Corpus(Path(data).name, parts[0], parts[1], labels)


def _fit_length(preset: Preset, train: LoadedClips) -> Preset:
    """Let nineteen clips of twenty fit into the model's input, between the preset's length and ten seconds."""
    seconds = sorted(len(waveform) / _SAMPLE_RATE for waveform in train.waveforms)
    frames = round(seconds[int(0.95 * (len(seconds) - 1))] * _FRAMES_PER_SECOND)
    return replace(preset, n_frames=min(1024, max(preset.n_frames, 16 * (frames // 16))))


def _train(corpus: Corpus, preset: Preset, seed: int, checkpoint: Path, bars: Progress) -> None:
    statistics = feature_statistics(corpus.train.waveforms, preset.n_frames)
    data = []
    for part in (corpus.train, corpus.test):
        values = ast_features(part.waveforms, n_frames=preset.n_frames, mean=statistics.mean, std=statistics.std).values
        data.append((values, torch.tensor([corpus.labels.index(clip.label) for clip in part.clips])))
    torch.manual_seed(seed)
    model = AST(
        None, width=preset.width, depth=preset.depth, n_heads=preset.n_heads, fstride=preset.fstride,
        tstride=preset.tstride, n_frames=preset.n_frames, n_classes=len(corpus.labels), labels=corpus.labels,
    )  # fmt: skip
    clips = f"{len(data[0][1])} clips ({corpus.name})"
    console().print(f"training an AST with {model.n_tokens} tokens on {clips}, {preset.epochs} epochs")

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        rolled = time_roll(x, generator, preset.max_shift)
        return spec_augment(rolled, generator, preset.max_freq, preset.max_time)

    task = bars.add_task("train", total=preset.epochs)

    def report(record: EpochRecord) -> None:
        bars.update(task, completed=record.epoch + 1)
        console().print(f"epoch {record.epoch + 1}: loss {record.loss:.3f}, {record.seconds:.0f} s")

    state = checkpoint.with_name("training.state")
    fit(
        model, data[0], epochs=preset.epochs, batch_size=preset.batch_size, lr=preset.lr, seed=seed,
        weight_decay=preset.weight_decay, warmup=preset.warmup, clip_norm=preset.clip_norm,
        label_smoothing=preset.label_smoothing, augment=augment, on_epoch=report, state_path=state,
    )  # fmt: skip
    features = {"mean": statistics.mean, "std": statistics.std, "n_frames": preset.n_frames}
    save_checkpoint(checkpoint, model, labels=corpus.labels, features=features, extra={"corpus": corpus.name})
    state.unlink(missing_ok=True)  # finished: the next run starts anew


def _sweep(corpus: Corpus, checkpoint: Path, bars: Progress) -> list[SweepRow]:
    loaded = load_model(str(checkpoint))
    task = bars.add_task("sweep", total=-(-len(corpus.test.clips) // 32))
    return sweep(
        loaded.model,
        batches(loaded, corpus.test, corpus.labels, 32),
        _rates(loaded.model),
        on_batch=lambda: bars.advance(task),
    )


def _rates(model: torch.nn.Module) -> list[Rate]:
    """Return settings of r from none to about a third of the cost: constant ones, and a front-loaded one."""
    assert isinstance(model, AST)  # the demo has just saved one
    patched = apply_patch(copy.deepcopy(model))
    n_patches, depth = model.n_tokens - model.num_prefix_tokens, len(model.v.blocks)

    def cut(rate: Rate) -> float:
        set_r(patched, rate)
        return describe(patched, model.n_tokens).macs_cut

    half = next((r for r in range(n_patches) if cut(r) >= 2.0), n_patches // 2)
    front: Rate = [round(0.4 * n_patches), round(0.12 * n_patches), *[2] * (depth - 2)]
    return [*[round(part * half) for part in (0, 0.3, 0.6, 0.85, 1)], front]


def _half_cost(rows: list[SweepRow]) -> Rate:
    """Return the setting whose MACs are closest to half."""
    return min(rows, key=lambda row: abs(row.macs_cut - 2.0)).r


def _draw(corpus: Corpus, checkpoint: Path, rate: Rate, path: Path) -> None:
    merged = merge_clip(load_model(str(checkpoint)), corpus.test.waveforms[0], rate)
    answer = corpus.labels[int(merged.output.argmax())]
    title = f"{corpus.test.clips[0].label}, heard as {answer}, {merged.report.macs_cut:.2f} times fewer MACs"
    save_figure(draw_merged(merged, "final", title), path)


def _write_examples(test: LoadedClips, folder: Path) -> None:
    """Write two test clips of each class as folder/class/number.wav."""
    written: Counter[str] = Counter()
    for waveform, clip in zip(test.waveforms, test.clips, strict=True):
        if written[clip.label] < 2:
            path = folder / clip.label / f"{written[clip.label]}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, waveform.numpy(), _SAMPLE_RATE)
            written[clip.label] += 1


def _next_steps(folder: Path, checkpoint: Path, rate: Rate, corpus: Corpus, data: str | None) -> str:
    setting = ",".join(map(str, rate)) if isinstance(rate, list) else str(rate)
    # As it was called: `make demo` runs it from a virtual environment that the reader need not have active.
    command = sys.argv[0] if Path(sys.argv[0]).name == "tome-audio" and not shutil.which("tome-audio") else "tome-audio"
    files = "YOUR.wav" if data else f"{folder}/examples/*/*.wav"
    lines = [
        f"written to {folder}: model.safetensors, sweep.csv, sweep.json, sweep.png (trade-off), merged.png (merges)",
        "",
        "Next, with your own files:",
        f"  {command} classify {files} --model {checkpoint} --r {setting}",
        f"  {command} inspect --model {checkpoint} --r {setting}",
        f"  {command} serve --model {checkpoint}        (a page; needs the extra demo)",
    ]
    if data is None:
        lines.append(f"  {command} demo --data FOLDER        (one folder per class, or FSDD)")
    lines += ["In Python, with a model you already have:", "  apply_patch(model); model.r = 16"]
    return "\n".join(lines)


def _advance(bars: Progress, task: int, done: int, total: int) -> None:
    bars.update(task, completed=done)  # type: ignore[arg-type]
