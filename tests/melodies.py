"""Small melodies with known places, and an embedder that knows them again: for tests of sample identification."""

from __future__ import annotations

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

RATE = 8000
NOTE = 0.25


def melody(seed, seconds, semitones=0.0, tempo=1.0, start=0.0):
    """Random notes of a seed, from `start` seconds of the original on, at another pitch and tempo."""
    notes = np.random.default_rng(seed).integers(0, 24, 4000)
    time = np.arange(round(seconds * RATE)) / RATE
    place = start + time * tempo
    number = (place / NOTE).astype(int)
    hz = 220 * 2 ** ((notes[number] + semitones) / 12)
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    return 0.3 * np.sin(phase) * np.exp(-3 * (place / NOTE - number))


def save(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


class MelodyEmbedder:
    """Energies of semitones over time; variants undo some transpositions and tempos."""

    sample_rate = RATE
    window = 2.0
    hop = 1.0
    frame_hop = 400
    margin = 0.064

    def __init__(self, name="melodies", variant_facts=((0, 1.0), (2, 1.0), (-3, 1.0), (0, 1.25), (2, 1.25))):
        self.facts = {"name": name, "r": "0"}
        self.variant_facts = variant_facts
        self.n_windows = 0
        hz = torch.fft.rfftfreq(1024, 1 / RATE)
        wanted = 110 * 2 ** (torch.arange(48) / 12)
        # Triangles a semitone wide, at least a bin.
        width = torch.maximum(wanted * (2 ** (1 / 12) - 1), torch.tensor(RATE / 1024))
        self.filters = (1 - (hz[None] - wanted[:, None]).abs() / width[:, None]).clamp(min=0)

    def frames(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform, 1024, self.frame_hop, window=torch.hann_window(1024), return_complex=True, pad_mode="constant"
        ).abs()
        return (self.filters @ spectrum).T

    def variants(self, windows: Tensor) -> Tensor:
        found = []
        for semitones, tempo in self.variant_facts:
            moved = windows[:, :, 6 + semitones : 42 + semitones]
            length = windows.shape[1]
            slower = interpolate(moved.transpose(1, 2), round(length * tempo), mode="linear").transpose(1, 2)
            found.append(slower[:, :length])
        return torch.stack(found, 1)

    def embed(self, windows: Tensor) -> Tensor:
        self.n_windows += len(windows)
        own = windows if windows.shape[2] == 36 else windows[:, :, 6:42]
        slices = interpolate(own.transpose(1, 2), 8, mode="area")
        return normalize((slices - slices.mean((1, 2), keepdim=True)).flatten(1), dim=1)
