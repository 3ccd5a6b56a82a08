"""What an encoder sees, from the file to its first convolution: no axis is swapped, and nothing is clamped.

A published baseline of 30.72 % came of these two: spectrograms with mel bins and frames exchanged, and everything below
the mean set to 1e-7. Neither raises an error, and where there are as many frames as bins no shape is wrong.
"""

import numpy as np
import pytest
import soundfile
import torch
from generated_clips import write_manifest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tome_audio.audio import ast_features, log_mel, read_audio
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.models import load_checkpoint
from tome_audio.models.few_shot import ENCODERS

pytest.importorskip("accelerate")
RATE = 16000
N_SAMPLES = {"log-mel": 24064, "fbank": 7920}
"""Of 48 frames, and of no second segment."""
CLASSES = ("low", "high", "click")
KINDS = {
    "cnn": ("--encoder.kind", "cnn", "--encoder.pool", "[2,2]"),
    "crnn": ("--encoder.kind", "crnn", "--encoder.pool", "[2,2]"),
    "ast": ("--encoder.kind", "ast"),
    "timm": ("--encoder.kind", "timm", "--encoder.timm_name", "mobilenetv3_small_050"),
}
MEL_FIRST = ("ast", "timm")
"""The encoders whose first convolution takes mel bins as rows; the others take frames."""


def sound(label, i, n_samples):
    """A low tone, a high one, or silence with one click, each with faint noise: few mel bins, or few frames."""
    noise = np.random.default_rng([len(label), i]).normal(0, 1e-4, n_samples)
    if label == "click":
        noise[2000 + 500 * i] = 0.9
        return noise
    return noise + 0.5 * np.sin(2 * np.pi * {"low": 300, "high": 3000}[label] / RATE * np.arange(n_samples))


def decaying_noise(label, i, n_samples):
    """Loud noise that gets ever fainter: a wide range of values, no two of them alike."""
    draws = np.random.default_rng([len(label), i])
    return draws.normal(0, 0.2, n_samples) * np.exp(-4 * np.arange(n_samples) / n_samples)


def write_sounds(folder, make, n_samples):
    """Three clips of each class in each split: which clips are for what, the data itself says."""
    entries = []
    folder.mkdir()
    for number, split in enumerate(("train", "valid", "test")):
        for label in CLASSES:
            for i in range(3):
                path = folder / f"{split}-{label}-{i}.wav"
                soundfile.write(path, make(label, 3 * number + i, n_samples), RATE, subtype="FLOAT")
                entries.append(Entry(path.stem, path, (label,), split))
    return write_manifest(Manifest(tuple(entries), CLASSES), folder)


@pytest.fixture
def seen():
    """Everything that encoders were given (B, T, F), and that their first convolutions were (B, 1, rows, columns)."""
    found = {"encoder": [], "convolution": []}

    def record(module, given):
        if isinstance(module, tuple(ENCODERS.values())):
            found["encoder"].append(given[0].detach().clone())
        elif isinstance(module, nn.Conv2d) and module.in_channels == 1:
            found["convolution"].append(given[0].detach().clone())

    handle = register_module_forward_pre_hook(record)
    yield found
    handle.remove()


@pytest.fixture
def through(run, config, tmp_path, seen):
    """Train on sounds for an epoch, then score the model; return what was seen in the two."""

    def call(make, kind, front_end, n_mels, n_frames=48):
        data = write_sounds(tmp_path / "sounds", make, N_SAMPLES[front_end])
        model = tmp_path / "out" / "model.safetensors"
        audio = ("--audio.front_end", front_end, "--audio.n_mels", n_mels, "--audio.n_frames", n_frames)
        short = ("--trainer.epochs", 1, "--episodes.n_way", 3, "--episodes.n_query", 1, "--episodes.per_epoch", 2)
        words = ("--config", config, "--data", data, "--out", tmp_path / "out", *audio, *KINDS[kind], *short)
        code, _, err = run("fewshot", "train", *words)
        assert code == 0, err
        trained = {name: torch.cat(parts) for name, parts in seen.items()}
        for parts in seen.values():
            parts.clear()
        words = ("--model", model, "--data", data, "--n_way", 2, "--n_tasks", 2, "--out", tmp_path / "scores")
        code, _, err = run("fewshot", "evaluate", *words)
        assert code == 0, err
        return trained, {name: torch.cat(parts) for name, parts in seen.items()}

    return call


def steady(peaks):
    """Which of (B, n) places of peaks are the same all along, give or take one for what lies between two."""
    return peaks.amax(1) - peaks.amin(1) <= 1


@pytest.mark.parametrize("n_mels", [32, 48], ids=["fewer-bins-than-frames", "as-many-bins-as-frames"])
@pytest.mark.parametrize(
    ("kind", "front_end"),
    [("cnn", "log-mel"), ("crnn", "log-mel"), ("ast", "fbank"), ("timm", "fbank")],
)
def test_mel_bins_and_frames_stay_where_they_belong(through, kind, front_end, n_mels):
    for phase in through(sound, kind, front_end, n_mels):
        given, pictures = phase["encoder"], phase["convolution"][:, 0]
        assert given.shape[1:] == (48, n_mels) and len(given) == len(pictures) >= 9
        if kind in MEL_FIRST:
            pictures = pictures.transpose(1, 2)
        assert torch.equal(pictures, given)  # no reshape in place of a transpose either
        inner = given[:, 2:-2]  # without the frames that reach beyond the clip
        bins, frames = inner.argmax(2), inner.argmax(1)
        tones, clicks = steady(bins), steady(frames)
        assert (tones != clicks).all()
        low, high = sorted(set(bins[tones][:, 0].tolist()))
        assert low < n_mels / 4 and n_mels / 2 < high < 0.9 * n_mels
        assert len(set(frames[clicks][:, 0].tolist())) > 2


@pytest.mark.parametrize(
    ("kind", "front_end"), [("cnn", "log-mel"), ("crnn", "fbank"), ("ast", "fbank"), ("timm", "log-mel")]
)
def test_nothing_below_the_mean_is_lost(through, tmp_path, kind, front_end):
    trained, scored = through(decaying_noise, kind, front_end, 32)
    facts = load_checkpoint(tmp_path / "out" / "model.safetensors")[1].extra["front_end"]
    waveforms = torch.stack([read_audio(path) for path in sorted((tmp_path / "sounds").glob("test-*.wav"))])
    if front_end == "fbank":
        plain = ast_features(waveforms, n_frames=48, n_mels=32, mean=0.0, std=0.5).values
        wanted, deviation = (plain - facts["mean"]) / (2 * facts["std"]), 0.5
    else:
        whole = (waveforms - waveforms.mean(1, keepdim=True)) / waveforms.std(1, correction=0, keepdim=True)
        plain = log_mel(whole[:, : 47 * 512], n_mels=32, normalise=False)
        wanted, deviation = (plain - facts["mean"]) / facts["std"], 1.0
    order = [f"test-{label}-{i}" for label in CLASSES for i in range(3)]
    places = [sorted(order).index(name) for name in order]
    torch.testing.assert_close(scored["encoder"], wanted[places], atol=1e-4, rtol=1e-4)
    for values in (*trained.values(), *scored.values()):
        assert values.min() < -1.5 * deviation and 0.3 < (values < 0).float().mean() < 0.7
        assert abs(values.mean()) < 0.2 * deviation and values.std() == pytest.approx(deviation, rel=0.2)
        # Whatever they were clamped to would be there again and again.
        for clip in values:
            assert clip.flatten().unique(return_counts=True)[1].max() <= 3
