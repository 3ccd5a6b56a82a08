"""Waveform augmentation for few-shot training, fitted to the spectrum of the data set (extra `fewshot`)."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tome_audio.audio.clip_checks import checked_clips
from tome_audio.audio.spectrum_facts import SPECTRUM_FACTS, SpectrumFacts
from tome_audio.audio.waveform_steps import Step, augmented, seeded_globals, silence_parts, splice_out
from tome_audio.installation import import_extra

_DB_PER_OCTAVE = 10 * np.log10(2.0)  # of a power that falls as 1 / f
_LOWEST_HZ = 20.0
_LARGEST: dict[str, float] = {"semitones": 24, "shift_part": 1, "gain_db": 100, "noise_exponent": 10, "n_splices": 100}
_LARGEST |= {"splice_seconds": 100, "stretch_part": 0.5, "n_masks": 100, "mask_part": 1}


@dataclass(frozen=True)
class WaveformAugmentation:
    """Which changes a waveform goes through, in this order, each with a probability of its own.

    The filters and the noise go by the centroid c, bandwidth b and flatness of the data set: low-pass cut-offs lie in
    [c, c + b/2], high-pass cut-offs and band-stop centres in [c - b/2, c], and noise is fainter where the data is
    less noisy itself. After the experiments of arXiv 2509.10074, with audiomentations.

    Args:
        facts: of the data set, from `spectrum_facts` or one of `SPECTRUM_FACTS`.
        low_pass: probability of a low-pass filter, 12 to 24 dB per octave.
        pitch_shift: probability of a change of pitch by up to `semitones` either way.
        shift: probability of rolling the clip by up to `shift_part` of its length either way.
        reversal: probability of playing it backwards.
        gain: probability of a gain of up to `gain_db` either way.
        noise: probability of coloured noise; see `snr_db` and `noise_exponent`.
        high_pass: probability of a high-pass filter, 12 to 24 dB per octave.
        band_stop: probability of a band-stop filter, 0.5 to 1.99 times its centre wide.
        splice_out: probability of cutting out `n_splices` intervals.
        stretch: probability of playing it up to `stretch_part` faster or slower at the same pitch.
        time_mask: probability of silencing `n_masks` stretches of `mask_part` of the clip each.
        semitones: widest change of pitch, at most 24.
        shift_part: widest shift, in [0, 1].
        gain_db: widest gain, in dB.
        snr_db: least and largest signal-to-noise ratio, in dB.
        noise_exponent: widest e of noise whose power falls as 1 / f^e: 0 is white, 1 pink, 2 brown, -2 violet.
        n_splices: intervals to cut out.
        splice_seconds: longest interval; it is never more than a tenth of the clip either.
        stretch_part: widest change of speed, at most 0.5.
        n_masks: stretches to silence.
        mask_part: length of each, as a part of the clip.

    Raises:
        ValueError: a setting out of range.
    """

    facts: SpectrumFacts
    low_pass: float = 0.5
    pitch_shift: float = 0.5
    shift: float = 0.5
    reversal: float = 0.0
    gain: float = 0.5
    noise: float = 0.5
    high_pass: float = 0.5
    band_stop: float = 0.5
    splice_out: float = 0.5
    stretch: float = 0.0
    time_mask: float = 0.5
    semitones: float = 4.0
    shift_part: float = 0.5
    gain_db: float = 6.0
    snr_db: tuple[float, float] = (3.0, 30.0)
    noise_exponent: float = 2.0
    n_splices: int = 8
    splice_seconds: float = 0.4
    stretch_part: float = 0.1
    n_masks: int = 5
    mask_part: float = 0.01

    def __post_init__(self) -> None:
        for name in STEPS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name, top in _LARGEST.items():
            if not 0 <= getattr(self, name) <= top:
                raise ValueError(f"{name} must be between 0 and {top}, got {getattr(self, name)}")
        low, high = self.snr_db
        if not -100 <= low <= high <= 100:
            raise ValueError(f"snr_db must be a lower and a higher number of dB within 100, got {low} and {high}")

    @classmethod
    def for_dataset(cls, name: str, **settings: Any) -> WaveformAugmentation:
        """The augmentation for one of `SPECTRUM_FACTS`'s data sets; `settings` as in the constructor.

        Raises:
            ValueError: an unknown name, or a setting out of range.
        """
        if name not in SPECTRUM_FACTS:
            raise ValueError(
                f"no spectrum facts for {name!r}: choose one of {', '.join(SPECTRUM_FACTS)}, "
                "or measure the clips with spectrum_facts"
            )
        return cls(SPECTRUM_FACTS[name], **settings)


STEPS = tuple(field.name for field in fields(WaveformAugmentation))[1:12]
"""Names of the changes, in the order in which they are made."""


@dataclass(frozen=True)
class WaveformViews:
    """Views of one waveform: the original, and others that each went through their own draw of an augmentation.

    Args:
        augmentation: what the others go through.
        n_views: V, with the original.
        sample_rate: of the waveforms, in Hz.

    Raises:
        ValueError: `n_views` or `sample_rate` below 1.
    """

    augmentation: WaveformAugmentation
    n_views: int = 4
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        for name in ("n_views", "sample_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """Views (V, T) of a waveform (T,), in its dtype and on its device; they may exceed [-1, 1].

        Computed in float32 on the CPU, without gradients. The same state of the generator gives the same views; the
        global random states of Python and NumPy are seeded meanwhile and put back.

        Args:
            waveform: (T,). Left as it is; the result is a new tensor.
            generator: on the CPU. One number is drawn per call.

        Raises:
            ImportError: audiomentations cannot be imported.
            ValueError: wrong shape, integer dtype, NaN or infinite samples.
        """
        (clip,) = checked_clips([waveform])
        seed = int(torch.randint(2**31, (1,), generator=generator))
        samples = clip.detach().to("cpu", torch.float32).numpy()
        views = [clip.detach()]
        draws = random.Random(seed)
        steps = waveform_steps(self.augmentation, self.sample_rate, draws)
        with seeded_globals(seed):
            for _ in range(self.n_views - 1):
                changed = augmented(samples, steps, self.sample_rate, draws)
                views.append(torch.from_numpy(changed).to(clip))
        return torch.stack(views)


def waveform_steps(
    augmentation: WaveformAugmentation, sample_rate: int, draws: random.Random
) -> list[tuple[float, Step]]:
    """The changes with their probabilities, in order; the bounds of the noise are drawn here, once.

    Raises:
        ImportError: audiomentations cannot be imported.
    """
    library = import_extra("audiomentations", "waveform augmentation", "fewshot")
    a, c, half = augmentation, augmentation.facts.centroid, augmentation.facts.bandwidth / 2
    above, below = _band(c, c + half, sample_rate), _band(c - half, c, sample_rate)
    quietest, loudest = noise_bounds(a, draws)
    decay = a.noise_exponent * _DB_PER_OCTAVE
    steps: dict[str, Step] = {
        "low_pass": library.LowPassFilter(*above, p=1.0),
        "pitch_shift": library.PitchShift(-a.semitones, a.semitones, p=1.0),
        # Without a fade at the joint: it fails on clips shorter than itself.
        "shift": library.Shift(-a.shift_part, a.shift_part, rollover=True, fade_duration=0.0, p=1.0),
        "reversal": library.Reverse(p=1.0),
        "gain": library.Gain(-a.gain_db, a.gain_db, p=1.0),
        "noise": library.AddColorNoise(quietest, loudest, -decay, decay, p=1.0),
        "high_pass": library.HighPassFilter(*below, p=1.0),
        "band_stop": library.BandStopFilter(*below, p=1.0),
        "splice_out": lambda x, rate: splice_out(x, draws, a.n_splices, int(a.splice_seconds * rate), rate),
        "stretch": library.TimeStretch(1 - a.stretch_part, 1 + a.stretch_part, leave_length_unchanged=True, p=1.0),
        "time_mask": lambda x, _: silence_parts(x, draws, a.n_masks, a.mask_part),
    }
    return [(getattr(a, name), steps[name]) for name in STEPS]


def noise_bounds(augmentation: WaveformAugmentation, draws: random.Random) -> tuple[float, float]:
    """Least and largest signal-to-noise ratio in dB, drawn on either side of a point that falls with the flatness."""
    low, high = augmentation.snr_db
    split = min(max(high * (1 - augmentation.facts.flatness), low), high)
    return draws.uniform(low, split), draws.uniform(split, high)


def _band(low: float, high: float, sample_rate: int) -> tuple[float, float]:
    # Within what a filter at this rate can do.
    top = 0.49 * sample_rate
    return min(max(low, _LOWEST_HZ), top), min(max(high, _LOWEST_HZ), top)
