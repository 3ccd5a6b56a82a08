"""Items for the trainer: AST's order of augmentation, labels and teachers mixed with one weight."""

import pytest
import torch
from clip_files import write_clip

from tome_audio.audio import ast_features, read_audio
from tome_audio.audio.augment import ast_augment
from tome_audio.audio.features import AstStatistics
from tome_audio.audio.mixup import draw_mixup, mix_waveforms
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.training_clips import Augmentation, ManifestClips

STATISTICS = AstStatistics(40, -5.0, 4.0)


@pytest.fixture
def manifest(tmp_path):
    paths = [write_clip(tmp_path / f"{i}.wav", 0.3 + 0.1 * i, seed=i) for i in range(3)]
    labels = [("a",), ("b",), ("c",)]
    return Manifest(
        tuple(Entry(path.stem, path, own) for path, own in zip(paths, labels, strict=True)), ("a", "b", "c")
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_clip_as_it_is(manifest):
    clips = ManifestClips(manifest, STATISTICS, augmentation=Augmentation(mixup=1.0, freqm=20))
    item = clips[1]
    wanted = ast_features([read_audio(manifest.entries[1].path)], n_frames=40, mean=-5.0, std=4.0).values[0]
    torch.testing.assert_close(item["features"], wanted)
    assert item["labels"] == 1 and item["labels"].dtype == torch.int64 and len(clips) == 3


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_mixed_clip_is_mixed_before_the_filter_bank_and_masked_before_it_is_normalised(manifest, in_memory):
    augmentation = Augmentation(mixup=1.0, freqm=20, timem=10, noise=True)
    clips = ManifestClips(manifest, STATISTICS, augmentation=augmentation, in_memory=in_memory)
    again = generator(3)
    drawn = draw_mixup(torch.tensor([0]), 3, 1.0, again)
    other, weight = int(drawn.partner), float(drawn.weight)
    waveforms = [read_audio(entry.path) for entry in manifest.entries]
    mixed = mix_waveforms(waveforms[0], waveforms[other], weight)
    raw = ast_features([mixed], n_frames=40, mean=0.0, std=0.5).values
    wanted = ast_augment(raw, again, mean=-5.0, std=4.0, freqm=20, timem=10, noise=True)[0]
    for _ in range(2):
        item = clips.draw(0, generator(3))
        torch.testing.assert_close(item["features"], wanted)
    labels = torch.zeros(3)
    labels[0] += weight
    labels[other] += 1 - weight
    torch.testing.assert_close(item["labels"], labels)


def test_a_teacher_is_mixed_like_the_labels_and_known_if_both_parts_are(manifest):
    said = {"0": torch.tensor([0.7, 0.2, 0.1]), "1": torch.tensor([0.1, 0.8, 0.1])}

    def answer(name):
        return said.get(name, torch.zeros(3)), name in said

    clips = ManifestClips(manifest, STATISTICS, augmentation=Augmentation(mixup=1.0), answer=answer)
    seen = set()
    for seed in range(30):
        drawn = draw_mixup(torch.tensor([0]), 3, 1.0, generator(seed))
        other, weight = int(drawn.partner), float(drawn.weight)
        item = clips.draw(0, generator(seed))
        assert bool(item["teacher_known"]) == (other != 2)
        if other != 2:
            wanted = said["0"] if other == 0 else weight * said["0"] + (1 - weight) * said["1"]
            torch.testing.assert_close(item["teacher"], wanted)
        seen.add(other)
    assert seen == {0, 1, 2}


def test_without_mixup_labels_are_indices_and_features_come_from_the_cache(tmp_path, manifest):
    cache = FeatureCache(tmp_path / "cache", {"n_frames": 40})
    kept = ManifestClips(manifest, STATISTICS, augmentation=Augmentation(max_shift=5), cache=cache)
    plain = ManifestClips(manifest, STATISTICS, augmentation=Augmentation(max_shift=5))
    for _ in range(2):
        first, second = kept.draw(2, generator(1)), plain.draw(2, generator(1))
        torch.testing.assert_close(first["features"], second["features"])
        assert first["labels"] == 2
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


def test_several_labels(manifest):
    entries = (*manifest.entries[:2], Entry("both", manifest.entries[2].path, ("a", "c")))
    several = Manifest(entries, manifest.labels)
    clips = ManifestClips(several, STATISTICS, multi_label=True)
    assert clips[2]["labels"].tolist() == [1.0, 0.0, 1.0] and clips.draw(2, generator())["labels"].tolist() == [1, 0, 1]
