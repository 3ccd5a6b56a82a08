"""Clips for the tests of data: good ones, and every kind of bad one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def write_clip(path: Path, seconds: float = 0.5, rate: int = RATE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)), rate)
    return path


def write_bad_clips(folder: Path) -> dict[str, Path]:
    """One file per kind of problem, except the missing one, which is a path alone."""
    folder.mkdir(parents=True, exist_ok=True)
    flac = write_clip(folder / "truncated.flac", 2.0)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    wav = write_clip(folder / "truncated.wav", 2.0)
    wav.write_bytes(wav.read_bytes()[:20000])
    (folder / "nothing.wav").write_bytes(b"")
    soundfile.write(folder / "empty.wav", np.zeros(0), RATE)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    samples[100] = np.nan
    soundfile.write(folder / "nan.wav", samples, RATE, subtype="FLOAT")
    (folder / "text.wav").write_text("this is not audio")
    write_clip(folder / "short.wav", 0.01)
    names = ("truncated.flac", "truncated.wav", "nothing.wav", "empty.wav", "nan.wav", "text.wav", "short.wav")
    return {"missing.wav": folder / "missing.wav", **{name: folder / name for name in names}}
