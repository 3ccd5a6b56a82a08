"""Clips with several labels made of clips with one: two or three of a split sound together, some classes often."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from tome_audio.audio.reading import AudioError, audio_seconds, read_audio
from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_files import MANIFEST_NAME, write_manifest_folder
from tome_audio.data.whole_file import whole_file

SPLITS = ("train", "valid", "test")
N_PARTS = (2, 3)
"""Fewest and most clips that sound together."""
GAINS_DB = (-6.0, 0.0)
"""Range of a clip's gain."""
PEAK = 0.99
"""Of full scale: a louder sum is turned down as a whole."""
FACTS_NAME, PARTS_NAME = "overlays.json", "parts.csv"
"""Beside the manifest: the settings, and which clips sound in which overlay with which gain, before `PEAK`."""

_RATE = 16000
_VERSION = 1
_PART_COLUMNS = ("id", "clip", "label", "source", "gain_db")

_Signal = NDArray[np.float64]


class Part(NamedTuple):
    """A clip that sounds in an overlay, and its gain in dB."""

    entry: Entry
    gain_db: float


@dataclass(frozen=True)
class Overlay:
    """Clips of different classes and recordings, all of one split, that sound together."""

    id: str
    split: str
    parts: tuple[Part, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of every part."""
        return tuple(part.entry.labels[0] for part in self.parts)


def make_overlays(
    manifest: Manifest,
    folder: str | Path,
    *,
    n_train: int,
    n_valid: int,
    n_test: int,
    seed: int = 0,
    seconds: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write overlays as 16-bit FLAC at 16 kHz below `folder`, with manifest.csv, labels.csv and parts.csv.

    A folder where this was stopped is gone on with: clips that are there and decode stay, the tables come last.

    Args:
        manifest: Clips with one label each in train, valid and test.
        folder: Made if need be; clips go to audio/SPLIT/ID.flac.
        n_train: Overlays in train; see `draw_overlays`.
        n_valid: In valid.
        n_test: In test.
        seed: Of all that is drawn.
        seconds: Length of every overlay: parts are cut, or end in silence. None takes that of the longest part.
        on_progress: Called after every overlay with (overlays done, overlays in all).

    Raises:
        DataError: See `draw_overlays`; a length out of range; or the folder holds something else.
        AudioError: A clip that cannot be read.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 1 / _RATE):
        raise DataError(f"seconds must be the length of an overlay, got {seconds}")
    counts = dict(zip(SPLITS, (n_train, n_valid, n_test), strict=True))
    overlays = draw_overlays(manifest, counts, seed)
    table = _parts_table(overlays)
    drawn = hashlib.sha256(table.encode()).hexdigest()
    root = Path(folder)
    settings = {"seed": seed, **{f"n_{split}": count for split, count in counts.items()}, "seconds": seconds}
    _claim(root, {"version": _VERSION, **settings, "clips": drawn})
    n_samples = None if seconds is None else round(seconds * _RATE)
    entries = []
    for done, overlay in enumerate(overlays, start=1):
        path = root / "audio" / overlay.split / f"{overlay.id}.flac"
        duration = _write_if_missing(overlay, path, n_samples)
        entries.append(Entry(overlay.id, path, overlay.labels, overlay.split, duration=duration))
        if on_progress is not None:
            on_progress(done, len(overlays))
    made = Manifest(tuple(entries), manifest.labels, manifest.names)
    _write_text(root / PARTS_NAME, table)
    write_manifest_folder(made, root)
    return made


def draw_overlays(manifest: Manifest, counts: Mapping[str, int], seed: int = 0) -> tuple[Overlay, ...]:
    """Draw which two or three clips sound together in every overlay, and their gains.

    No recording sounds in two splits (see `without_shared_sources`), and none twice in one overlay. In train a class
    is drawn by Zipf's law, with weight 1 / rank over a seeded order of the classes, so that there is something to
    balance; in valid and test all are drawn alike. Overlay i of a split depends on (seed, split, i) alone, so a
    larger set begins with the smaller one.

    Args:
        manifest: Clips with one label each; those without a split are left out.
        counts: Overlays for each of train, valid and test.
        seed: Of all that is drawn.

    Raises:
        DataError: A clip without exactly one label, an unknown label, a split with too few classes or recordings, or
            a setting out of range.
    """
    if seed < 0:
        raise DataError(f"seed must be 0 or more, got {seed}")
    for split in SPLITS:
        if counts[split] < 1:
            raise DataError(f"n_{split} must be at least 1, got {counts[split]}")
    _check_one_label(manifest)
    kept = without_shared_sources(manifest)
    order = np.random.default_rng([seed, len(SPLITS)]).permutation(len(manifest.labels)).tolist()
    ranks = {manifest.labels[place]: rank for rank, place in enumerate(order, start=1)}
    overlays = []
    for number, split in enumerate(SPLITS):
        clips = _by_class(kept, split)
        weights = np.array([1.0 / ranks[label] if split == "train" else 1.0 for label in clips])
        for i in range(counts[split]):
            parts = _draw_parts(np.random.default_rng([seed, number, i]), split, list(clips.values()), weights)
            overlays.append(Overlay(f"{split}-{i:05}", split, parts))
    return tuple(overlays)


def without_shared_sources(manifest: Manifest) -> Manifest:
    """Leave out clips of train whose recording is in valid or test too, and clips of valid whose recording is in test.

    Test clips stay; a clip of unknown source is a recording of its own.
    """
    owner: dict[str, str] = {}
    for split in reversed(SPLITS):
        for entry in manifest.entries:
            if entry.split == split:
                owner.setdefault(_source(entry), split)
    return manifest.without([e.id for e in manifest.entries if e.split in SPLITS and owner[_source(e)] != e.split])


def overlay_waveforms(
    waveforms: Sequence[NDArray[Any]], gains_db: Sequence[float], n_samples: int | None = None
) -> _Signal:
    """Add waveforms (T_i,) with their gains into one (T,), turned down where its peak would pass `PEAK`.

    Args:
        waveforms: All begin together.
        gains_db: Of each.
        n_samples: T; longer waveforms are cut, shorter ones end in silence. None takes the longest of them.
    """
    total = np.zeros(max(map(len, waveforms)) if n_samples is None else n_samples)
    for waveform, gain in zip(waveforms, gains_db, strict=True):
        part = waveform[: len(total)].astype(np.float64)
        total[: len(part)] += 10 ** (gain / 20) * part
    peak = float(np.abs(total).max())
    return total * (PEAK / peak) if peak > PEAK else total


def _draw_parts(
    rng: np.random.Generator, split: str, clips: Sequence[Sequence[Entry]], weights: _Signal
) -> tuple[Part, ...]:
    wanted = int(rng.integers(N_PARTS[0], N_PARTS[1] + 1))
    # The order in which classes come without replacement, each with a chance in proportion to its weight
    # (Efraimidis and Spirakis, 2006).
    order = np.argsort(rng.exponential(size=len(weights)) / weights)
    parts: list[Part] = []
    for place in order.tolist():
        heard = {_source(part.entry) for part in parts}
        left = [entry for entry in clips[place] if _source(entry) not in heard]
        if left:
            entry = left[int(rng.integers(len(left)))]
            parts.append(Part(entry, round(float(rng.uniform(*GAINS_DB)), 2)))
        if len(parts) == wanted:
            return tuple(parts)
    raise DataError(f"{split} has too few recordings for {wanted} classes of different ones: bring more clips")


def _check_one_label(manifest: Manifest) -> None:
    for entry in manifest.entries:
        if len(entry.labels) != 1:
            raise DataError(f"overlays are made of clips with one label each: {entry.id} has {len(entry.labels)}")
    manifest.class_indices()


def _by_class(manifest: Manifest, split: str) -> dict[str, list[Entry]]:
    """Return the clips of a split by label, in the order of the classes."""
    clips: dict[str, list[Entry]] = {label: [] for label in manifest.labels}
    for entry in manifest.entries:
        if entry.split == split:
            clips[entry.labels[0]].append(entry)
    found = {label: own for label, own in clips.items() if own}
    if not found:
        raise DataError(
            f"overlays need clips in train, valid and test, {split} has none: there are {manifest.summary()}"
        )
    if len(found) < N_PARTS[1]:
        raise DataError(f"{split} has clips of {len(found)} classes: overlays need at least {N_PARTS[1]} in each split")
    return found


def _source(entry: Entry) -> str:
    # The marks keep a source "7" and an id "7" apart.
    return f"id:{entry.id}" if entry.source is None else f"source:{entry.source}"


def _claim(root: Path, facts: dict[str, Any]) -> None:
    """Write down what the folder is for, or check that it was for the same."""
    path = root / FACTS_NAME
    if path.is_file():
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} cannot be read: delete the folder and make it again") from error
        changed = [name for name, value in facts.items() if known.get(name) != value]
        if changed:
            # The clips that were drawn follow from the other settings where these differ.
            shown = [f"{name} was {known.get(name)}, now {facts[name]}" for name in changed if name != "clips"]
            said = "; ".join(shown) or "the clips to draw from were others"
            raise DataError(f"{root} holds overlays made otherwise ({said}): give another folder or delete this one")
    elif (root / MANIFEST_NAME).exists():
        raise DataError(f"{root} holds {MANIFEST_NAME} of other clips: give another folder")
    else:
        _write_text(path, json.dumps(facts, indent=2) + "\n")
    for leaving in root.glob("audio/*/.*.part.flac"):  # of a run that was killed while it wrote
        leaving.unlink(missing_ok=True)


def _write_if_missing(overlay: Overlay, path: Path, n_samples: int | None) -> float:
    """Return the length in seconds of an overlay that is there now."""
    if path.exists():
        try:
            return audio_seconds(path)
        except AudioError:
            pass  # what does not decode is written again
    waveforms = [read_audio(part.entry.path, _RATE).numpy() for part in overlay.parts]
    mixed = overlay_waveforms(waveforms, [part.gain_db for part in overlay.parts], n_samples)
    with whole_file(path) as partial:
        # Rounded here: libsndfile's own scaling of floats differs between its releases.
        soundfile.write(partial, np.round(mixed * 2**15).astype(np.int16), _RATE, subtype="PCM_16")
    return len(mixed) / _RATE


def _parts_table(overlays: Sequence[Overlay]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_PART_COLUMNS)
    for overlay in overlays:
        for entry, gain_db in overlay.parts:
            rows.writerow([overlay.id, entry.id, entry.labels[0], entry.source or "", f"{gain_db:.2f}"])
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
