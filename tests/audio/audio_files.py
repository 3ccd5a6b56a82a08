"""Audio files for the tests of this folder, made on the fly."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import torch

from tome_audio.audio import AudioError, read_audio

RATE = 16000
CODECS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def tone(seconds=1.0, rate=RATE, hz=440.0, peak=0.5):
    return peak * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)


def noise(seconds=2.0, rate=RATE):
    return np.random.default_rng(0).uniform(-0.5, 0.5, int(seconds * rate))


def encode(samples, kind, rate=RATE, subtype=None):
    container, default = CODECS[kind]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype or default)
    return buffer.getvalue()


def save(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def read_or_refuse(path, **settings_):
    """The law of this module: a finite mono float32 waveform in [-1, 1], or an AudioError naming the file."""
    try:
        waveform = read_audio(path, **settings_)
    except AudioError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
        return None
    assert waveform.dtype == torch.float32
    assert waveform.dim() == 1 and len(waveform) >= 1
    assert waveform.abs().max() <= 1  # false for NaN too
    return waveform
