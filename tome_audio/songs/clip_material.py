"""Clips of real audio as the material of worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tome_audio.audio.reading import AudioError, is_silent, read_audio
from tome_audio.data.clips import EXTENSIONS, SPLITS, DataError, clip_id
from tome_audio.data.sample_tables import PARTS
from tome_audio.songs.finishing import loudness
from tome_audio.songs.flips import Flip, Music
from tome_audio.songs.material import ReferenceRole

Samples = NDArray[np.float32]

_JOIN_SECONDS = 0.05
_LOUDNESS = 0.1
_SOFTEST_DB = -6.0
_SHORTEST_SECONDS = 0.5
_PART_SHARES = (("train", 0.6), ("valid", 0.2), ("test", 0.2))


@dataclass(frozen=True)
class PoolClip:
    """A file of real audio; clips of one source are cut from one recording."""

    id: str
    path: Path
    part: str
    source: str
    genre: str | None = None


@dataclass(frozen=True)
class ClipMaterial:
    """Clips of real audio; originals, distractors and what songs play come from different recordings.

    Attributes:
        originals: Clips by part, each of a recording of its own.
        distractors: Clips by part, of recordings that no original is of.
        beds: Clips by part, of recordings that no reference is of.
        sample_rate: In Hz.
        layers: Clips that sound at once in what a song plays itself.
    """

    originals: Mapping[str, tuple[PoolClip, ...]]
    distractors: Mapping[str, tuple[PoolClip, ...]]
    beds: Mapping[str, tuple[PoolClip, ...]]
    sample_rate: int = 16000
    layers: int = 1

    def reference(self, rng: np.random.Generator, part: str, role: ReferenceRole, number: int, seconds: float) -> Music:
        """Read a clip whole; its length is its own."""
        clip = (self.originals if role == "original" else self.distractors)[part][number]
        return Music(self._read(clip), title=clip.id, genre=clip.genre)

    def unlisted(self, rng: np.random.Generator, part: str, seconds: float) -> Music:
        """Read a clip that is no reference."""
        clip = self.beds[part][int(rng.integers(len(self.beds[part])))]
        return Music(self._read(clip), title=clip.id, genre=clip.genre)

    def song(self, rng: np.random.Generator, part: str, seconds: float, fit: tuple[Music, Flip] | None) -> Music:
        """Return clips that are no references, one after another, in so many layers as was asked for."""
        n_samples = round(seconds * self.sample_rate)
        layers = [self._chain(rng, part, n_samples) for _ in range(self.layers)]
        total: Samples = np.sum(layers, axis=0, dtype=np.float32)
        return Music(total)

    def stems(self, rng: np.random.Generator, part: str, seconds: float) -> tuple[dict[str, Samples], dict[str, Any]]:
        """Return two to four layers of clips as stems."""
        n_stems, n_samples = int(rng.integers(2, 5)), round(seconds * self.sample_rate)
        stems = {f"clips-{number}": self._chain(rng, part, n_samples) for number in range(1, n_stems + 1)}
        peak = float(np.abs(np.sum(list(stems.values()), axis=0)).max())
        return {name: stem * np.float32(0.9 / max(peak, 1e-9)) for name, stem in stems.items()}, {}

    def check(self, part: str, n_originals: int, n_distractors: int, n_songs: int, n_material: int) -> None:
        """See `Material`.

        Raises:
            DataError: Too few recordings.
        """
        if part not in self.beds:
            raise DataError(
                f"part {part} is wanted and no clip is in it: set its counts to 0"
                if part in PARTS
                else "originals that all parts share are drawn songs: leave out --shared_originals or the clips"
            )
        for what, wanted, there in (
            ("originals", n_originals, len(self.originals.get(part, ()))),
            ("distractors", n_distractors, len(self.distractors.get(part, ()))),
            ("clips for songs", int(n_songs + n_material > 0), len(self.beds.get(part, ()))),
        ):
            if there < wanted:
                raise DataError(
                    f"part {part} of the clips is too small: {wanted} {what} are wanted and {there} are left; "
                    f"ask for fewer with --{part}.n_originals, --{part}.n_distractors and --{part}.n_songs"
                )

    def facts(self) -> dict[str, Any]:
        """Return the ids of all clips by what they are for."""
        uses = {"originals": self.originals, "distractors": self.distractors, "beds": self.beds}
        clips = {use: {part: [c.id for c in found] for part, found in parts.items()} for use, parts in uses.items()}
        return {"kind": "clips", "sample_rate": self.sample_rate, "layers": self.layers, "clips": clips}

    def _chain(self, rng: np.random.Generator, part: str, n_samples: int) -> Samples:
        """Clips in a drawn order, each at the same loudness give or take a little, joined by short cross-fades."""
        out = np.zeros(n_samples, np.float32)
        join = round(_JOIN_SECONDS * self.sample_rate)
        place, order = -int(rng.integers(0, 2 * self.sample_rate)), rng.permutation(len(self.beds[part])).tolist()
        turn = 0
        while place < n_samples:
            clip = self._read(self.beds[part][order[turn % len(order)]])
            gain = 10 ** (float(rng.uniform(_SOFTEST_DB, 0)) / 20)
            clip = clip * np.float32(_LOUDNESS * gain / max(loudness(clip, self.sample_rate), 1e-9))
            ramp = np.linspace(0, 1, min(join, len(clip) // 2), dtype=np.float32)
            clip[: len(ramp)] *= ramp
            clip[len(clip) - len(ramp) :] *= ramp[::-1]
            begin, end = max(place, 0), min(place + len(clip), n_samples)
            if end > begin:
                out[begin:end] += clip[begin - place : end - place]
            place, turn = place + max(1, len(clip) - len(ramp)), turn + 1
        return out

    def _read(self, clip: PoolClip) -> Samples:
        samples: Samples = read_audio(clip.path, self.sample_rate).numpy()
        return samples


def draw_clip_material(
    clips: Sequence[PoolClip],
    counts: Mapping[str, tuple[int, int]],
    seed: int,
    sample_rate: int = 16000,
    layers: int = 1,
) -> ClipMaterial:
    """Draw which clips are originals, which distractors, and which sound beside samples.

    Args:
        clips: Of all parts.
        counts: Originals and distractors wanted, by part; a part that is not named gives clips for songs alone.
        seed: Of the draw.
        sample_rate: In Hz.
        layers: See `ClipMaterial`.

    Raises:
        DataError: A source in two parts, or `layers` out of range.
    """
    if not 1 <= layers <= 8:
        raise DataError(f"layers must be between 1 and 8, got {layers}")
    parts: dict[str, str] = {}
    for clip in clips:
        if parts.setdefault(clip.source, clip.part) != clip.part:
            raise DataError(f"clips of the recording {clip.source} are in {parts[clip.source]} and in {clip.part}")
    names = sorted(set(parts.values()))
    found: dict[str, dict[str, tuple[PoolClip, ...]]] = {"originals": {}, "distractors": {}, "beds": {}}
    for number, part in enumerate(names):
        by_source: dict[str, list[PoolClip]] = {}
        for clip in clips:
            if clip.part == part:
                by_source.setdefault(clip.source, []).append(clip)
        sources = np.random.default_rng([seed, number]).permutation(sorted(by_source)).tolist()
        n_originals, n_distractors = counts.get(part, (0, 0))
        own, others = sources[:n_originals], sources[n_originals:]
        found["originals"][part] = tuple(by_source[source][0] for source in own)
        distractors: list[PoolClip] = []
        while others and len(distractors) < n_distractors:
            distractors += by_source[others.pop(0)]
        found["distractors"][part] = tuple(distractors[:n_distractors])
        found["beds"][part] = tuple(clip for source in others for clip in by_source[source])
    return ClipMaterial(**found, sample_rate=sample_rate, layers=layers)


def clips_below(folder: str | Path, seed: int = 0) -> list[PoolClip]:
    """List the audio files below a folder as clips, each a recording of its own, without reading them.

    Folders train, valid and test in it are parts; without any of them three fifths of the files are drawn for train
    and a fifth each for valid and test.

    Args:
        folder: Where to look. Audio files end in .wav, .flac, .ogg or .mp3.
        seed: Of that draw.

    Raises:
        DataError: No such folder, or no audio in it.
    """
    root = Path(folder)
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in EXTENSIONS and path.is_file()]
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise DataError(
            f"{root} holds no audio ({', '.join(sorted(EXTENSIONS))}): give a folder of clips or a manifest"
        )
    tops = [SPLITS.get(path.relative_to(root).parts[0]) for path in files]
    if any(tops):
        kept = [(path, part) for path, part in zip(files, tops, strict=True) if part is not None]
        return [PoolClip(clip_id(path, root), path, part, str(path)) for path, part in kept]
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    clips, begin, share = [], 0, 0.0
    for part, own in _PART_SHARES:
        share += own
        end = round(share * len(files))
        clips += [PoolClip(clip_id(files[i], root), files[i], part, str(files[i])) for i in sorted(order[begin:end])]
        begin = end
    return clips


def usable(
    clips: Sequence[PoolClip], sample_rate: int = 16000, on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[PoolClip], list[AudioError]]:
    """Read every clip; return those that sound and last half a second, and an error for each other one."""
    good, errors = [], []
    for done, clip in enumerate(clips, start=1):
        try:
            waveform = read_audio(clip.path, sample_rate)
            if len(waveform) < _SHORTEST_SECONDS * sample_rate:
                raise AudioError(clip.path, f"is shorter than {_SHORTEST_SECONDS} s; leave it out", "too short")
            if is_silent(waveform, 1e-4):
                raise AudioError(clip.path, "is silent; leave it out", "silent")
            good.append(clip)
        except AudioError as error:
            errors.append(error)
        if on_progress is not None:
            on_progress(done, len(clips))
    return good, errors
