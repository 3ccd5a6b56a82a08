"""`tome-audio teacher-logits`: what a trained model answers to every clip, stored for distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tome_audio.audio import AudioError, read_audio
from tome_audio.cli.corpora import is_manifest, manifest_clips
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.fit import find_audio
from tome_audio.cli.loading import LoadedModel, load_model
from tome_audio.cli.output import console, progress, warn
from tome_audio.data.clips import Clip, DataError, clip_id
from tome_audio.data.teacher_logits import TeacherLogitsWriter, average_logits, check_same_labels
from tome_audio.profiling import environment


def teacher_logits(
    model: list[str] | str,
    data: str,
    out: str,
    split: Literal["all", "train", "valid", "test"] = "all",
    batch_size: int = 32,
    shard_size: int = 256,
    threads: int | None = None,
    labels: str | None = None,
) -> int:
    """Write the logits of a model, or the mean of several, for every clip of a folder.

    Writes teacher.json and logits-*.npz into the folder --out, by clip id: that of the manifest, or the path below
    --data without its extension.
    A run that was stopped goes on where it was; one with other models, settings or clips needs another folder.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST.
        data: Folder that `tome-audio manifest` has written, a folder of labelled clips, or any with audio files in it.
        out: Folder for the logits; made if need be.
        split: Which clips to run over.
        batch_size: Clips per forward pass.
        shard_size: Clips per file; a run that is killed loses at most as many.
        threads: CPU threads for the model; none leaves PyTorch's choice.
        labels: Label CSV (index,mid,display_name) for weights that hold no names, such as official AST files.
    """
    check_counts(batch_size=batch_size, shard_size=shard_size)
    use_threads(threads)
    models = [model] if isinstance(model, str) else model  # a config file may name one
    teachers = [load_model(name, labels) for name in models]
    names = _agreed_labels(teachers)
    clips = _chosen(data, split)
    writer = TeacherLogitsWriter(
        out,
        names,
        models=[_identity(name) for name in models],
        settings={"average": "logits", "multi_label": teachers[0].multi_label},
        versions=environment(),
        shard_size=shard_size,
    )
    writer.check_clips({name: clip.path for name, clip in clips.items()})
    with writer as store:
        known = len(clips.keys() & store.done)
        left = {name: clip for name, clip in clips.items() if name not in store.done}
        failed = _run(teachers, left, store, batch_size)
    if failed == len(clips):
        raise DataError(f"none of {len(clips)} clips in {data} could be used; each is named above")
    going_on = f", {known} of them by an earlier run" if known else ""
    console().print(f"logits of {len(clips) - failed} clips in {out}{going_on}")
    return 1 if failed else 0


def _run(teachers: Sequence[LoadedModel], left: dict[str, Clip], store: TeacherLogitsWriter, batch_size: int) -> int:
    """Store the logits of these clips and return how many cannot be used."""
    failed, ids = 0, list(left)
    with progress() as bars:
        task = bars.add_task("teach", total=len(ids))
        for start in range(0, len(ids), batch_size):
            waveforms = _read({name: left[name] for name in ids[start : start + batch_size]})
            if waveforms:
                logits = _answer(teachers, list(waveforms.values()))
                sound = logits.isfinite().all(1)
                for name in [name for name, is_sound in zip(waveforms, sound, strict=True) if not is_sound]:
                    warn(f"error: {left[name].path}: the logits are NaN or infinite")
                    del waveforms[name]
                store.add(list(waveforms), logits[sound], [left[name].path for name in waveforms])
            chosen = len(ids[start : start + batch_size])
            failed += chosen - len(waveforms)
            bars.advance(task, chosen)
    return failed


def _read(clips: dict[str, Clip]) -> dict[str, Tensor]:
    """Return the waveforms of those clips that can be read, and name the others."""
    waveforms = {}
    for name, clip in clips.items():
        try:
            waveforms[name] = read_audio(clip.path)
        except AudioError as error:
            warn(f"error: {error}")
    return waveforms


@torch.inference_mode()
def _answer(teachers: Sequence[LoadedModel], waveforms: Sequence[Tensor]) -> Tensor:
    answers = []
    for teacher in teachers:
        assert teacher.prepare is not None  # need_labels has seen it
        output = teacher.model(teacher.prepare(waveforms))
        answers.append(getattr(output, "logits", output))
    return average_logits(answers)


def _agreed_labels(teachers: Sequence[LoadedModel]) -> tuple[str, ...]:
    first = teachers[0]
    names = first.need_labels()
    for other in teachers[1:]:
        check_same_labels(names, other.need_labels(), first.name, other.name)
        if other.multi_label != first.multi_label:
            raise ValueError(
                f"{first.name} and {other.name} cannot be averaged: "
                "one is for a single label per clip, the other for several"
            )
    return names


def _identity(name: str) -> dict[str, Any]:
    """Return what tells this teacher from another of the same name: the checksum of its file, where it is one."""
    path = Path(name)
    if not path.is_file():
        return {"name": name}
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            checksum.update(block)
    return {"name": path.name, "sha256": checksum.hexdigest()}


def _chosen(data: str, split: str) -> dict[str, Clip]:
    """Return the clips of a manifest by their ids there, or those of a folder by their paths below it."""
    if not is_manifest(Path(data)):
        return _by_id([clip for clip in find_audio(data, seed=0) if split in ("all", clip.split)], Path(data), split)
    found = {name: clip for name, clip in manifest_clips(data).items() if split in ("all", clip.split)}
    if not found:
        raise DataError(f"{data} has no clip in split {split!r}")
    return found


def _by_id(clips: Sequence[Clip], root: Path, split: str) -> dict[str, Clip]:
    if not clips:
        raise DataError(f"{root} has no clip in split {split!r}")
    found: dict[str, Clip] = {}
    for clip in clips:
        name = clip_id(clip.path, root)
        if name in found:
            raise DataError(
                f"{found[name].path} and {clip.path} have the same id, {name}: remove or rename one of them"
            )
        found[name] = clip
    return found
