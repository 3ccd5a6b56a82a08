from __future__ import annotations

import dataclasses

import pytest
import torch

from tome_audio.audio import AstFeatures
from tome_audio.audio.augment import spec_augment, time_roll
from tome_audio.data.corpora.sound_events import CLASSES, make_corpus
from tome_audio.data.statistics import feature_statistics
from tome_audio.models.ast import AST
from tome_audio.training import presets
from tome_audio.training.loop import accuracy, fit
from tome_audio.training.presets import DEMO, Preset

PRESETS = {name: value for name, value in vars(presets).items() if isinstance(value, Preset)}


def build(preset: Preset) -> AST:
    torch.manual_seed(0)
    return AST(
        None, n_classes=10, width=preset.width, depth=preset.depth, n_heads=preset.n_heads,
        n_frames=preset.n_frames, fstride=preset.fstride, tstride=preset.tstride,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_fits_model_augmentation_and_loop(name):
    preset = PRESETS[name]
    model, generator = build(preset), torch.Generator().manual_seed(0)
    assert 60 <= model.n_tokens <= 150  # enough for merging to have something to merge
    features = torch.randn(4, preset.n_frames, 128, generator=generator)
    masked = spec_augment(features, generator, preset.max_freq, preset.max_time)
    masked = time_roll(masked, generator, preset.max_shift)
    settings = ("batch_size", "lr", "weight_decay", "warmup", "clip_norm", "label_smoothing")
    history = fit(model, (masked, torch.arange(4)), epochs=1, **{name: getattr(preset, name) for name in settings})
    assert len(history.records) == 1


def test_presets_are_found_and_frozen():
    assert set(PRESETS) == {"DEMO", "SPEECH"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEMO.lr = 1.0


def test_two_layers_overfit_forty_generated_clips():
    waveforms, labels = make_corpus(4, seed=0)
    waveforms = [torch.from_numpy(w) for w in waveforms]
    found = feature_statistics(waveforms, DEMO.n_frames)
    features = AstFeatures(found.n_frames, found.mean, found.std)(waveforms).values
    targets = torch.tensor([CLASSES.index(label) for label in labels])
    model = build(dataclasses.replace(DEMO, depth=2, tstride=16))
    before = accuracy(model, features, targets)
    fit(model, (features, targets), epochs=40, batch_size=20, lr=1e-3)
    assert before < 0.4 and accuracy(model, features, targets) > 0.9
