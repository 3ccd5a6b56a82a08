"""Embeddings of clips, computed once and kept on disk; what was done before a kill is not done again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tome_audio.data.clips import DataError
from tome_audio.data.segmented_clips import SegmentedClips
from tome_audio.data.whole_file import whole_file

SHARD = 256
"""Clips whose embeddings are kept in one file."""

Embed = Callable[[Tensor], Tensor]
"""Views (B, V, T, F) of segments to embeddings (B, V', D)."""
SeenAs = Callable[[int, Tensor], Tensor]
"""A clip's number and its segments (S, T, F) to views of them (S, V, T, F)."""


class Embedded(NamedTuple):
    """Embeddings (S, V, D) of all segments of all clips, and which clip (S,) each is of."""

    values: Tensor
    clip: Tensor


def embed_clips(
    clips: SegmentedClips,
    embed: Embed,
    facts: Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    seen_as: SeenAs | None = None,
    batch_size: int = 64,
    on_clips: Callable[[int], None] | None = None,
) -> Embedded:
    """Embed every segment of every clip once, in order.

    Args:
        clips: What is embedded.
        embed: The model, in eval mode.
        facts: All that embeddings depend on beside the files: weights, r, front end, views. JSON values.
        folder: Keeps embeddings, found by facts, paths, sizes and times of change; None keeps none.
        seen_as: Makes views of segments; None sees each as it is.
        batch_size: Segments per call of `embed`.
        on_clips: Called with the number of clips done.

    Raises:
        AudioError: A clip cannot be read.
        DataError: There are no clips, or an embedding is NaN or infinite; the clip is named.
        OSError: The folder cannot be written.
    """
    if not len(clips):
        raise DataError("there is no clip to embed")
    parts, numbers = [], []
    for first in range(0, len(clips), SHARD):
        own = range(first, min(len(clips), first + SHARD))
        file = None if folder is None else Path(folder) / f"{_key(clips, own, facts)}.npz"
        shard = None if file is None else _load(file)
        if shard is None:
            shard = _computed(clips, own, embed, seen_as, batch_size)
            if file is not None:
                with whole_file(file) as partial:
                    np.savez(partial, values=shard.values.numpy(), clip=shard.clip.numpy())
        parts.append(shard.values)
        numbers.append(shard.clip + first)
        if on_clips is not None:
            on_clips(own.stop)
    return Embedded(torch.cat(parts), torch.cat(numbers))


def _computed(clips: SegmentedClips, own: range, embed: Embed, seen_as: SeenAs | None, batch_size: int) -> Embedded:
    parts, numbers = [], []
    for batch, of in _batches(clips, own, seen_as, batch_size):
        with torch.inference_mode():
            values = embed(batch).float().cpu()
        wrong = ~torch.isfinite(values).flatten(1).all(1)
        if bool(wrong.any()):
            entry = clips.manifest.entries[own.start + of[int(wrong.nonzero()[0])]]
            raise DataError(f"the embedding of {entry.id} ({entry.path}) is not finite: is the model trained?")
        parts.append(values)
        numbers += of
    return Embedded(torch.cat(parts).clone(), torch.tensor(numbers))


def _batches(
    clips: SegmentedClips, own: range, seen_as: SeenAs | None, batch_size: int
) -> Iterator[tuple[Tensor, list[int]]]:
    # Views of segments (B, V, T, F), and the place in the shard of the clip that each is of.
    waiting: list[Tensor] = []
    of: list[int] = []
    for place, number in enumerate(own):
        features = clips.features(number)
        waiting += list(features.unsqueeze(1) if seen_as is None else seen_as(number, features))
        of += [place] * (len(waiting) - len(of))
        while len(waiting) >= batch_size:
            yield torch.stack(waiting[:batch_size]), of[:batch_size]
            waiting, of = waiting[batch_size:], of[batch_size:]
    if waiting:
        yield torch.stack(waiting), of


def _key(clips: SegmentedClips, own: range, facts: Mapping[str, Any]) -> str:
    files = []
    for entry in (clips.manifest.entries[number] for number in own):
        path = entry.path.resolve()
        status = path.stat()
        files.append([str(path), status.st_size, status.st_mtime_ns])
    text = json.dumps([files, own.start, dict(facts)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _load(file: Path) -> Embedded | None:
    try:
        with zipfile.ZipFile(file) as members:
            found = {}
            for name in ("values", "clip"):
                with members.open(f"{name}.npy") as member:  # its checksum is looked at while it is read
                    found[name] = torch.from_numpy(np.lib.format.read_array(member, allow_pickle=False))
            return Embedded(**found)
    except Exception:  # absent, or damaged: what is raised then varies with the damage
        return None
