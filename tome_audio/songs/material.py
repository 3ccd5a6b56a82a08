"""What worlds are made of, and songs that are drawn as such material."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tome_audio.songs.flips import Flip, Music
from tome_audio.songs.harmony import Key
from tome_audio.songs.song import TEMPI, Song, make_song

Samples = NDArray[np.float32]

ReferenceRole = Literal["original", "distractor"]


class Material(Protocol):
    """Gives references, what songs play beside a sample, and stems to train on."""

    @property
    def sample_rate(self) -> int:
        """Of all that it gives, in Hz."""
        ...

    def reference(self, rng: np.random.Generator, part: str, role: ReferenceRole, number: int, seconds: float) -> Music:
        """Return an original or a distractor."""
        ...

    def unlisted(self, rng: np.random.Generator, part: str, seconds: float) -> Music:
        """Return something to sample that is no reference."""
        ...

    def song(self, rng: np.random.Generator, part: str, seconds: float, fit: tuple[Music, Flip] | None) -> Music:
        """Return what a song plays itself, in the tempo and key of a flip of an original where `fit` says so."""
        ...

    def stems(self, rng: np.random.Generator, part: str, seconds: float) -> tuple[dict[str, Samples], dict[str, Any]]:
        """Return stems (T,) that sum to a song, and what is known of it."""
        ...

    def check(self, part: str, n_originals: int, n_distractors: int, n_songs: int, n_material: int) -> None:
        """Raise an error that says what is lacking where a part asks for more than there is."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what tells this material from another, as JSON has it."""
        ...


@dataclass(frozen=True)
class GeneratedMaterial:
    """Songs drawn by `make_song`, each new."""

    sample_rate: int = 16000

    def reference(self, rng: np.random.Generator, part: str, role: ReferenceRole, number: int, seconds: float) -> Music:
        """Draw a song; part, role and number are in the generator."""
        return self.song(rng, part, seconds, None)

    def unlisted(self, rng: np.random.Generator, part: str, seconds: float) -> Music:
        """Draw a song."""
        return self.song(rng, part, seconds, None)

    def song(self, rng: np.random.Generator, part: str, seconds: float, fit: tuple[Music, Flip] | None) -> Music:
        """Draw a song, in the tempo and key that the bent sample has where there is one to fit."""
        if fit is None:
            return _music(make_song(rng, seconds, self.sample_rate))
        original, flip = fit
        tempo, key, tuning = fitting(original, flip)
        return _music(make_song(rng, seconds, self.sample_rate, tempo=tempo, key=key, tuning=tuning))

    def stems(self, rng: np.random.Generator, part: str, seconds: float) -> tuple[dict[str, Samples], dict[str, Any]]:
        """Draw a song and return its stems."""
        song = make_song(rng, seconds, self.sample_rate)
        instruments = {role: timbre.family for role, timbre in song.instruments.items()}
        return dict(song.stems), {"tempo": round(song.tempo, 3), "key": asdict(song.key), "instruments": instruments}

    def check(self, part: str, n_originals: int, n_distractors: int, n_songs: int, n_material: int) -> None:
        """Do nothing: there is no end of songs."""

    def facts(self) -> dict[str, Any]:
        """Return the kind and the rate."""
        return {"kind": "generated", "sample_rate": self.sample_rate}


def fitting(original: Music, flip: Flip) -> tuple[float | None, Key | None, float | None]:
    """Return tempo, key and tuning in which a song goes together with a flip of an original; None where unknown."""
    if original.tempo is None or original.key is None:
        return None, None, None
    tempo = original.tempo * flip.tempo_ratio
    while tempo < TEMPI[0]:
        tempo *= 2
    while tempo > TEMPI[1]:
        tempo /= 2
    root = original.key.root + original.tuning + flip.semitones
    return tempo, Key(round(root) % 12, original.key.scale), root - round(root)


def _music(song: Song) -> Music:
    title = f"{song.tempo:.1f} beats per minute, {song.key.name}"
    return Music(song.mix(), song.tempo, song.first_bar, song.beats_per_bar, song.key, song.tuning, title=title)
