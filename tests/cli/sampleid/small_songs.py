"""Six songs of two stems, 2 s each, and settings that train on them in seconds."""

import numpy as np
import soundfile

SMALL = (
    "--material.window", "1.0", "--material.hop", "0.5", "--material.rounds", "2", "--encoder.width", "16",
    "--encoder.depth", "2", "--encoder.n_heads", "2", "--encoder.n_dims", "8", "--encoder.patch", "[32,7]",
    "--encoder.fstride", "32", "--encoder.tstride", "7", "--trainer.epochs", "2", "--trainer.batch_size", "4",
    "--trainer.cpu", "true",
)  # fmt: skip


def write_song(path, seed, seconds=2.0):
    """Write a tone that comes and goes over noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * 16000)) / 16000
    tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * time) * (np.sin(2 * np.pi * rng.uniform(1, 4) * time) > 0)
    soundfile.write(path, 0.3 * tone + 0.02 * rng.standard_normal(len(time)), 16000)
    return path


def write_material(folder):
    """Write stems/train and stems/valid."""
    for part, n, first in (("train", 6, 0), ("valid", 3, 100)):
        for song in range(n):
            for stem in range(2):
                write_song(folder / "stems" / part / f"song{song}" / f"{stem}.flac", first + 10 * song + stem)
    return folder
