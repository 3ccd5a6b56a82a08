"""Timbres of pitched instruments: parameters drawn within the ranges of a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_Range = tuple[float, float]


@dataclass(frozen=True)
class Timbre:
    """How an instrument sounds.

    Attributes:
        family: A name in `FAMILIES`.
        engine: "harmonic" (partials that are multiples of the pitch), "fm" (two operators) or "modes" (struck bars).
        tilt: Fall of the partials in powers of their number.
        even: Level of the even partials: 0 for a square wave.
        pluck: Where a string is plucked, as a part of its length; 0 for no string.
        formants: Peaks of the spectrum as (Hz, width in octaves, gain).
        cutoff: Low-pass in multiples of the pitch.
        sweep: How far the low-pass opens at the beginning of a note, in multiples of the pitch.
        sweep_seconds: Time constant in which it closes.
        attack, decay, release: Seconds.
        sustain: Level that a note decays to.
        damping: Decay of partials, per second and kHz of their frequency.
        detune: Distance of two voices in cents; 0 for one voice.
        vibrato: Depth in cents.
        vibrato_rate: In Hz.
        breath: Level of the noise beside the tone.
        drive: Gain before a soft clipper; 0 for none.
        ratio: Of the second operator's frequency, or how far the modes of a bar are stretched.
        depth: Of the modulation at the beginning of a note, or the level of the upper modes.
        phase_seed: Of the partials' phases.
    """

    family: str
    engine: str
    tilt: float
    even: float
    pluck: float
    formants: tuple[tuple[float, float, float], ...]
    cutoff: float
    sweep: float
    sweep_seconds: float
    attack: float
    decay: float
    release: float
    sustain: float
    damping: float
    detune: float
    vibrato: float
    vibrato_rate: float
    breath: float
    drive: float
    ratio: float
    depth: float
    phase_seed: int


@dataclass(frozen=True)
class Family:
    """Ranges that a timbre's parameters are drawn from; a struck instrument's notes die away."""

    engine: str = "harmonic"
    struck: bool = False
    tilt: _Range = (0.9, 1.6)
    even: _Range = (1.0, 1.0)
    pluck: _Range = (0.0, 0.0)
    n_formants: int = 0
    cutoff: _Range = (6.0, 20.0)
    sweep: _Range = (0.0, 0.0)
    sweep_seconds: _Range = (0.05, 0.4)
    attack: _Range = (0.003, 0.01)
    decay: _Range = (0.2, 1.0)
    release: _Range = (0.04, 0.2)
    sustain: _Range = (0.6, 1.0)
    damping: _Range = (0.0, 0.5)
    detune: _Range = (0.0, 0.0)
    vibrato: _Range = (0.0, 0.0)
    breath: _Range = (0.0, 0.0)
    drive: _Range = (0.0, 0.0)
    ratio: _Range = (1.0, 1.0)
    depth: _Range = (0.0, 0.0)


FAMILIES: Mapping[str, Family] = {
    "guitar": Family(pluck=(0.08, 0.35), damping=(0.6, 2.5), decay=(0.5, 1.8), tilt=(0.4, 1.0), struck=True),
    "distorted guitar": Family(pluck=(0.08, 0.3), damping=(0.2, 0.8), decay=(1.5, 4.0), tilt=(0.5, 1.0), drive=(2, 6)),
    "harp": Family(pluck=(0.2, 0.5), damping=(0.3, 1.5), decay=(0.4, 1.5), tilt=(1.2, 2.2), struck=True),
    "clavinet": Family(
        pluck=(0.05, 0.15), even=(0.3, 1.0), tilt=(0.2, 0.8), decay=(0.2, 0.6), damping=(0.5, 1.5), struck=True
    ),
    "piano": Family(
        pluck=(0.1, 0.15), damping=(0.4, 1.2), decay=(0.8, 2.5), tilt=(0.9, 1.5), detune=(0, 4), struck=True
    ),
    "electric piano": Family(
        engine="fm", ratio=(1, 14), depth=(0.3, 2.0), decay=(0.6, 2.0), sweep_seconds=(0.1, 0.8), struck=True
    ),
    "bell": Family(engine="fm", ratio=(2.2, 5.5), depth=(0.8, 3.0), decay=(0.4, 1.6), struck=True, release=(0.2, 0.6)),
    "mallet": Family(engine="modes", ratio=(0.85, 1.15), depth=(0.1, 0.7), decay=(0.1, 0.9), struck=True),
    "organ": Family(
        even=(0.1, 1.0), tilt=(0.4, 1.2), cutoff=(4, 16), n_formants=2, vibrato=(0, 12), release=(0.02, 0.06)
    ),
    "pad": Family(
        tilt=(0.8, 1.4),
        cutoff=(2.5, 9),
        sweep=(-1.5, 3),
        sweep_seconds=(0.4, 1.5),
        attack=(0.1, 0.5),
        release=(0.2, 0.7),
        detune=(4, 22),
    ),
    "strings": Family(
        tilt=(0.7, 1.2),
        cutoff=(6, 18),
        attack=(0.06, 0.25),
        release=(0.1, 0.4),
        detune=(3, 14),
        vibrato=(4, 16),
        n_formants=2,
    ),
    "choir": Family(
        tilt=(0.7, 1.2),
        n_formants=3,
        attack=(0.05, 0.2),
        release=(0.1, 0.3),
        detune=(3, 12),
        vibrato=(6, 25),
        breath=(0.0, 0.05),
    ),
    "voice": Family(
        tilt=(0.8, 1.3),
        n_formants=3,
        attack=(0.03, 0.1),
        vibrato=(10, 45),
        breath=(0.0, 0.06),
        sweep_seconds=(0.1, 0.3),
    ),
    "synth lead": Family(
        tilt=(0.7, 1.2), even=(0.0, 1.0), cutoff=(4, 20), sweep=(0, 14), detune=(0, 14), vibrato=(0, 25), drive=(0, 1.5)
    ),
    "synth stab": Family(
        tilt=(0.8, 1.1),
        even=(0.2, 1.0),
        cutoff=(1.5, 5),
        sweep=(4, 16),
        sweep_seconds=(0.04, 0.25),
        decay=(0.1, 0.5),
        sustain=(0.0, 0.4),
        detune=(0, 16),
    ),
    "brass": Family(
        tilt=(0.5, 0.9),
        cutoff=(5, 14),
        sweep=(-3, 4),
        sweep_seconds=(0.03, 0.15),
        attack=(0.02, 0.07),
        n_formants=1,
        detune=(0, 8),
        vibrato=(0, 15),
    ),
    "reed": Family(
        tilt=(0.5, 1.1), even=(0.05, 0.8), attack=(0.02, 0.06), n_formants=2, vibrato=(3, 25), breath=(0.01, 0.05)
    ),
    "flute": Family(tilt=(1.8, 3.0), even=(0.4, 1.0), attack=(0.03, 0.1), vibrato=(5, 30), breath=(0.03, 0.15)),
    "finger bass": Family(pluck=(0.15, 0.35), damping=(1.0, 4.0), decay=(0.4, 1.2), tilt=(0.8, 1.6), struck=True),
    "synth bass": Family(
        tilt=(0.7, 1.2),
        even=(0.0, 1.0),
        cutoff=(1.5, 8),
        sweep=(0, 16),
        sweep_seconds=(0.05, 0.3),
        sustain=(0.3, 1),
        drive=(0, 2),
    ),
    "sub bass": Family(tilt=(2.0, 3.5), even=(0.3, 1.0), decay=(0.3, 1.5), sustain=(0.4, 1), drive=(0, 3)),
    "fm bass": Family(engine="fm", ratio=(1, 3), depth=(0.5, 3.0), sustain=(0.2, 0.8), sweep_seconds=(0.05, 0.3)),
}


def draw_timbre(rng: np.random.Generator, family: str) -> Timbre:
    """Draw the parameters of an instrument of a family in `FAMILIES`."""
    ranges = FAMILIES[family]

    def drawn(span: _Range) -> float:
        return float(rng.uniform(*span))

    formants = tuple(
        (float(300 * 2 ** rng.uniform(0, 3.3)), float(rng.uniform(0.12, 0.5)), float(rng.uniform(2, 9)))
        for _ in range(ranges.n_formants)
    )
    ratio = drawn(ranges.ratio)
    return Timbre(
        family=family,
        engine=ranges.engine,
        tilt=drawn(ranges.tilt),
        even=drawn(ranges.even),
        pluck=drawn(ranges.pluck),
        formants=formants,
        cutoff=drawn(ranges.cutoff),
        sweep=drawn(ranges.sweep),
        sweep_seconds=drawn(ranges.sweep_seconds),
        attack=drawn(ranges.attack),
        decay=drawn(ranges.decay),
        release=drawn(ranges.release),
        sustain=0.0 if ranges.struck else drawn(ranges.sustain),
        damping=drawn(ranges.damping),
        detune=drawn(ranges.detune),
        vibrato=drawn(ranges.vibrato),
        vibrato_rate=float(rng.uniform(4, 7)),
        breath=drawn(ranges.breath),
        drive=drawn(ranges.drive),
        # Whole ratios keep the sidebands on the harmonics; only a bell is meant to clang.
        ratio=float(round(ratio)) if ranges.engine == "fm" and family != "bell" else ratio,
        depth=drawn(ranges.depth),
        phase_seed=int(rng.integers(2**31)),
    )
