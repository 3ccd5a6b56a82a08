"""Artificial mixes to learn from: a stretch of one song, flipped, with stems of another over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tome_audio.audio.spectrogram_flips import equalised, looped, mixed, stretched, transposed
from tome_audio.audio.vqt import peak_normalised
from tome_audio.data.clips import DataError

_TRIES = 8
_AUDIBLE = 1e-3  # of the song's mean power


@dataclass(frozen=True)
class FlipSettings:
    """What may happen to a sample, after Riou et al., 2025 (arXiv 2510.11507).

    Attributes:
        semitones: Farthest transposition, up or down.
        tempo: Smallest and largest tempo ratio.
        level: Smallest and largest level of the sample over what is mixed with it, in dB.
        eq: Largest gain of the equaliser at any of its points, in dB.
        whole: Probability that the sample has all stems of its song; otherwise it has some of them.
        loop: Probability that a part of the sample is looped.
        shortest: Shortest part that is looped, in seconds.
        cover: Smallest part of the window that the sample is heard in.
        offset: Farthest that the sample begins from the reference window's beginning, in seconds.
        retake: Probability that the song itself is another one: transposed as far as `retake_semitones`, its stems
            louder or softer by up to `retake_db`; so a few hundred songs are heard as many more.
        retake_semitones: Of that, either way.
        retake_db: Of that, either way.

    Raises:
        ValueError: A value out of range.
    """

    semitones: float = 6.0
    tempo: tuple[float, float] = (0.7, 1.5)
    level: tuple[float, float] = (-6.0, 6.0)
    eq: float = 8.0
    whole: float = 0.6
    loop: float = 0.4
    shortest: float = 1.5
    cover: float = 0.6
    offset: float = 1.25
    retake: float = 0.8
    retake_semitones: float = 6.0
    retake_db: float = 9.0

    def __post_init__(self) -> None:
        for name in ("semitones", "eq", "offset", "retake_semitones", "retake_db"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("whole", "loop", "cover", "retake"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.tempo[0] <= self.tempo[1] or not self.level[0] <= self.level[1] or not self.shortest > 0:
            raise ValueError(
                "tempo and level must be a smallest and a largest value, tempo and shortest positive, got "
                f"{tuple(self.tempo)}, {tuple(self.level)} and {self.shortest}"
            )


class SongMixes:
    """Songs as pairs of a window and a mix that samples it.

    A training item holds `reference` (T, F), the window in decibels as the index has it, `sample` and `backing`
    (T, F), the flipped window and other stems of the same song in power, and `level`: the task lays the backing of one
    song over the sample of another. A fixed item, to validate on, holds `reference` and a finished `mix` (T, F) with
    the backing of the next song.

    Args:
        songs: Amplitudes (S stems, T frames, F bins) of every song.
        n_frames: Frames of a window.
        frames_per_second: Of the front end.
        bins_per_octave: Of the front end.
        settings: What may happen to a sample.
        seed: Of the fixed items.

    Raises:
        DataError: Fewer than two songs, or one shorter than a window.
    """

    def __init__(
        self,
        songs: Sequence[Tensor],
        *,
        n_frames: int,
        frames_per_second: float,
        bins_per_octave: int,
        settings: FlipSettings | None = None,
        seed: int = 0,
    ) -> None:
        if len(songs) < 2:
            raise DataError(f"artificial mixes need at least two songs, got {len(songs)}")
        short = [number for number, song in enumerate(songs) if song.shape[1] < n_frames]
        if short:
            raise DataError(f"song {short[0]} has {songs[short[0]].shape[1]} frames, a window {n_frames}: leave it out")
        self.songs, self.n_frames, self.seed = songs, n_frames, seed
        self.frames_per_second, self.bins_per_octave = frames_per_second, bins_per_octave
        self.settings = settings or FlipSettings()

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the fixed item of a song."""
        own = self.draw(index, self._generator(index))
        following = (index + 1) % len(self.songs)
        backing = self.draw(following, self._generator(following))["backing"]
        mix = peak_normalised(mixed(own["sample"], backing, own["level"]))
        return {"reference": own["reference"], "mix": mix}

    def draw(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a training item of a song that the generator alone decides on."""
        chance = _Chance(generator)
        stems = self.songs[index]
        start = self._audible_start(stems, chance)
        first, last = self._reach(start, stems.shape[1])
        stems, start = self._retaken(stems[:, first:last].float(), chance), start - first
        heard = stems[:, start : start + self.n_frames].square()
        sampled = self._some(len(stems), chance) if chance.unit() >= self.settings.whole else list(range(len(stems)))
        return {
            "reference": peak_normalised(heard.sum(0)),
            "sample": self._flipped(stems[sampled], start, chance),
            "backing": heard[self._some(len(stems), chance)].sum(0),
            "level": torch.tensor(chance.between(*self.settings.level)),
        }

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values."""
        return {"n_frames": self.n_frames, **asdict(self.settings)}

    def _generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + index)

    def _audible_start(self, stems: Tensor, chance: _Chance) -> int:
        n_starts = stems.shape[1] - self.n_frames + 1
        start = chance.below(n_starts)
        for _ in range(_TRIES):
            own = stems[:, start : start + self.n_frames].float().square().sum(0).mean()
            if own > _AUDIBLE * stems.float().square().sum(0).mean():
                break
            start = chance.below(n_starts)
        return start

    def _reach(self, start: int, n_frames: int) -> tuple[int, int]:
        """Return the first and last frame that a window and its sample may need: the rest need not be retaken."""
        away = round(self.settings.offset * self.frames_per_second) + 2
        longest = int(self.n_frames * max(1.0, self.settings.tempo[1])) + 2
        return max(0, start - away), min(n_frames, max(start + away, start) + longest)

    def _retaken(self, stems: Tensor, chance: _Chance) -> Tensor:
        """Return the amplitudes of the song in another key and mix."""
        s = self.settings
        if chance.unit() >= s.retake:
            return stems
        gains = torch.tensor([10 ** (chance.between(-s.retake_db, s.retake_db) / 20) for _ in range(len(stems))])
        semitones = chance.between(-s.retake_semitones, s.retake_semitones)
        return transposed(stems * gains[:, None, None], semitones, self.bins_per_octave)

    def _some(self, n_stems: int, chance: _Chance) -> list[int]:
        if n_stems == 1:
            return [0]
        n = 1 + chance.below(n_stems - 1)
        return chance.order(n_stems)[:n]

    def _flipped(self, stems: Tensor, start: int, chance: _Chance) -> Tensor:
        s, rate = self.settings, self.frames_per_second
        ratio = chance.between(*s.tempo)
        first = start + round(chance.between(-s.offset, s.offset) * rate)
        first = max(0, min(first, stems.shape[1] - self.n_frames))
        last = first + int(self.n_frames * ratio) + 2
        power = stretched(stems[:, first:last].square().sum(0), ratio, self.n_frames)
        if chance.unit() < s.loop:
            shortest = min(self.n_frames, round(s.shortest * rate))
            power = looped(power[: shortest + chance.below(self.n_frames - shortest + 1)], self.n_frames)
        power = transposed(power, chance.between(-s.semitones, s.semitones), self.bins_per_octave)
        power = equalised(power, torch.tensor([chance.between(-s.eq, s.eq) for _ in range(6)]))
        silent = round(self.n_frames * (1 - s.cover) * chance.unit())
        if silent:
            begins = chance.unit() < 0.5
            power[slice(0, silent) if begins else slice(-silent, None)] = 0
        return power


class _Chance:
    """Plain numbers from a torch generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def unit(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))

    def order(self, n: int) -> list[int]:
        return [int(i) for i in torch.randperm(n, generator=self.generator)]


class EverySong:
    """An epoch of several rounds over all songs, each in an order of its own that (seed, epoch) decides on.

    A batch holds a song twice only where two rounds meet.
    """

    def __init__(self, n_songs: int, rounds: int, seed: int) -> None:
        if rounds < 1:
            raise ValueError(f"an epoch needs at least one round, got {rounds}")
        self.n_songs, self.rounds, self.seed, self.epoch = n_songs, rounds, seed, 0

    def __len__(self) -> int:
        return self.n_songs * self.rounds

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for _ in range(self.rounds):
            yield from torch.randperm(self.n_songs, generator=generator).tolist()

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values."""
        return {"kind": "EverySong", "rounds": self.rounds, "seed": self.seed}
