"""`tome-audio sampleid generate`: songs that sample other songs, with the truth in tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from tome_audio.cli.corpora import CorpusConfig, corpus_manifest, is_manifest
from tome_audio.cli.output import console, progress, warn
from tome_audio.data.corpora.overlays import without_shared_sources
from tome_audio.data.sample_tables import OCCURRENCES_NAME, TRACKS_NAME
from tome_audio.songs.clip_material import PoolClip, clips_below, draw_clip_material, usable
from tome_audio.songs.flips import DEFAULT_FLIP, FlipOptions
from tome_audio.songs.material import GeneratedMaterial, Material
from tome_audio.songs.world_folder import write_world
from tome_audio.songs.worlds import DEFAULT_PARTS, PartCounts, WorldOptions


def generate(
    out: str,
    seed: int = 0,
    train: PartCounts = DEFAULT_PARTS["train"],
    valid: PartCounts = DEFAULT_PARTS["valid"],
    test: PartCounts = DEFAULT_PARTS["test"],
    flip: FlipOptions = DEFAULT_FLIP,
    seconds: float = 30.0,
    material_seconds: float = 20.0,
    shared_originals: int = 0,
    second_sample: float = 0.0,
    unlisted: float = 0.5,
    material: str | None = None,
    corpus: CorpusConfig | None = None,
    layers: int = 1,
    processes: int = 1,
) -> int:
    """Write songs that sample others, what they sample, distractors, and stems to train on; no part shares any.

    Songs are drawn (harmony, melodies, rhythm, instruments), or made of clips of real audio with --material. The truth
    is in tracks.csv and occurrences.csv. A run that was stopped goes on where it was.

    Args:
        out: Folder for audio and tables; made if need be.
        seed: Of all that is drawn.
        train: Tracks to make for train.
        valid: Tracks to make for valid.
        test: Tracks to make for test.
        flip: What becomes of samples.
        seconds: Length of songs, and of references that are drawn, give or take 15 %.
        material_seconds: Length of songs with stems.
        shared_originals: Originals that songs of all parts sample in turn, to classify songs by their original; 0
            gives each part its own.
        second_sample: Part of the songs with a sample that sample two originals.
        unlisted: Part of the songs without a listed sample that sample something which is no reference.
        material: Folder of clips, of a corpus or of anything, or a manifest; none draws songs.
        corpus: Which clips the folder of a corpus gives; a manifest says so itself.
        layers: Of clips: how many sound at once beside a sample.
        processes: That make tracks; any number makes the same.
    """
    parts = {"train": train, "valid": valid, "test": test}
    options = WorldOptions(seed, parts, shared_originals, flip, seconds, material_seconds, second_sample, unlisted)
    chosen: Material = GeneratedMaterial()
    n_skipped = 0
    if material is not None:
        wanted = options.wanted_parts()
        clips, n_skipped = _usable_clips(_clips(material, corpus or CorpusConfig()), wanted)
        counts = {part: (own.n_originals, own.n_distractors) for part, own in parts.items()}
        chosen = draw_clip_material(clips, counts, seed, layers=layers)
    with progress() as bars:
        task = bars.add_task("generate", total=None)
        table = write_world(
            options,
            chosen,
            out,
            n_processes=processes,
            on_progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    n_material = sum(counts.n_material for counts in parts.values())
    stems = f"; {n_material} songs with stems" if n_material else ""
    console().print(f"{table.summary()}{stems}; written: {Path(out) / TRACKS_NAME}, {OCCURRENCES_NAME}")
    return 1 if n_skipped else 0


def _clips(material: str, corpus: CorpusConfig) -> list[PoolClip]:
    """Return the clips of a manifest or corpus with the recordings they are of, or those of any folder."""
    if corpus.name is None and not is_manifest(Path(material)):
        return clips_below(material, corpus.seed)
    found = corpus_manifest(corpus, material)
    entries = tuple(replace(entry, split=entry.split or "train") for entry in found.entries)
    found = replace(found, entries=entries)
    apart = without_shared_sources(found)
    if len(apart) < len(found):
        warn(f"{len(found) - len(apart)} clips are left out: their recordings are in another split too")
    return [
        PoolClip(entry.id, entry.path, entry.split or "train", entry.source or entry.id, ", ".join(entry.labels))
        for entry in apart.entries
    ]


def _usable_clips(clips: list[PoolClip], parts: Collection[str]) -> tuple[list[PoolClip], int]:
    """Return the clips of some parts that can be used, and how many cannot; each of those is named."""
    wanted = [clip for clip in clips if clip.part in parts]
    with progress() as bars:
        task = bars.add_task("check", total=len(wanted))
        good, errors = usable(wanted, on_progress=lambda done, _: bars.update(task, completed=done))
    for error in errors:
        warn(f"skipped: {error}")
    return good, len(errors)
