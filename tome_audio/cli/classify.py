"""`tome-audio classify`: what is in these files."""

from __future__ import annotations

import json as json_format

import torch
from rich.table import Table
from torch import Tensor

from tome_audio.audio import AudioError, is_silent, read_audio
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.rates import parse_rate
from tome_audio.patch import apply_patch

Labels = list[tuple[str, float]]


def classify(
    files: list[str], model: str, r: str = "0", top_k: int = 5, json: bool = False, labels: str | None = None
) -> int:
    """Name what is heard in audio files.

    Args:
        files: Audio files (wav, flac, ogg, mp3; any rate, any number of channels).
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        r: Tokens merged per block: 16, or 45,20,12,6 for one number per block, (16,-1) for r and inflection,
            [49,24|6,4] with rounds before the first block, or 3x for three times fewer multiply-accumulates.
        top_k: How many labels to show per file.
        json: Print one JSON object per file and line instead of a table.
        labels: Label CSV (index,mid,display_name) for weights that hold no names, such as official AST files.
    """
    if top_k < 1:
        raise ValueError(f"--top_k must be at least 1, got {top_k}")
    rate = parse_rate(r)
    loaded = load_model(model, labels)
    loaded.need_labels()
    if rate != 0:  # r = 0 is the model itself, and a model nobody can merge in still has answers
        apply_patch(loaded.model, rate)
    answers: dict[str, Labels] = {}
    with progress() as bars:
        for file in bars.track(files, description="classify"):
            try:
                answers[file] = _best(loaded, read_audio(file), file, top_k)
            except AudioError as error:
                warn(f"error: {error}")
    for file, answer in answers.items():
        if json:
            console().out(json_format.dumps({"file": file, "labels": [{"label": n, "score": s} for n, s in answer]}))
    if answers and not json:
        console().print(_table(answers))
    if not answers:
        return 2
    return 0 if len(answers) == len(set(files)) else 1


def top_labels(loaded: LoadedModel, logits: Tensor, top_k: int) -> Labels:
    """Return the most probable labels with their probabilities, best first, from the logits (classes,) of one clip.

    Raises:
        ValueError: if the model has no labels.
    """
    names = loaded.need_labels()
    scores = logits.sigmoid() if loaded.multi_label else logits.softmax(-1)
    best = scores.topk(min(top_k, len(names)))
    return [(names[i], round(s, 6)) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


@torch.inference_mode()
def _best(loaded: LoadedModel, waveform: Tensor, file: str, top_k: int) -> Labels:
    if is_silent(waveform):
        warn(f"warning: {file}: every sample is zero; the answer is what the model makes of silence")
    assert loaded.prepare is not None  # need_labels has seen it
    output = loaded.model(loaded.prepare([waveform]))
    return top_labels(loaded, getattr(output, "logits", output)[0], top_k)


def _table(answers: dict[str, Labels]) -> Table:
    table = Table()
    for column in ("file", "label", "score"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for file, answer in answers.items():
        for rank, (name, score) in enumerate(answer):
            table.add_row(file if rank == 0 else "", name, f"{score:.3f}")
        table.add_section()
    return table
