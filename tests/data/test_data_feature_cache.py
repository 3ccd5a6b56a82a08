from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from clip_files import write_clip

from tome_audio.audio import ast_features, read_audio
from tome_audio.data.feature_cache import FeatureCache

SETTINGS = {"front_end": "ast", "n_frames": 16, "sample_rate": 16000}


class Compute:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return torch.arange(12.0).reshape(3, 4) / 7


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_clip(tmp_path / "clip.wav")


def test_features_are_computed_once_and_come_back_exactly(clip, tmp_path):
    compute = Compute()
    first = FeatureCache(tmp_path / "cache", SETTINGS).get(clip, compute)
    again = FeatureCache(tmp_path / "cache", dict(reversed(SETTINGS.items()))).get(clip, compute)
    assert compute.calls == 1 and torch.equal(first, again) and first.dtype == again.dtype


def test_bfloat16_is_kept_as_float32_without_loss(clip, tmp_path):
    cache, features = FeatureCache(tmp_path / "cache", SETTINGS), torch.arange(12.0).bfloat16() / 7
    first, again = cache.get(clip, lambda: features), cache.get(clip, Compute())
    assert first.dtype == again.dtype == torch.float32
    assert torch.equal(first, features.float()) and torch.equal(again, first)


@pytest.mark.parametrize("change", ["settings", "content", "time", "name"])
def test_another_file_or_other_settings_are_computed_anew(clip, tmp_path, change):
    compute, settings, path = Compute(), dict(SETTINGS), clip
    FeatureCache(tmp_path / "cache", settings).get(path, compute)
    stamp = clip.stat().st_mtime_ns
    if change == "settings":
        settings["n_frames"] = 17
    elif change == "content":
        write_clip(clip, 0.75)
        os.utime(clip, ns=(stamp, stamp))
    elif change == "time":
        os.utime(clip, ns=(stamp, stamp + 1))
    else:
        path = clip.rename(tmp_path / "other.wav")
    FeatureCache(tmp_path / "cache", settings).get(path, compute)
    assert compute.calls == 2


def test_any_damage_is_noticed_and_mended(clip, tmp_path):
    cache, compute = FeatureCache(tmp_path / "cache", SETTINGS), Compute()
    right = cache.get(clip, compute)
    file = cache.place(clip)
    whole = file.read_bytes()
    for position in range(len(whole)):
        flipped = whole[position] ^ (0xFE if position % 2 else 0x01)
        file.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
        assert torch.equal(cache.get(clip, compute), right)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert torch.equal(cache.get(clip, compute), right)
        assert file.read_bytes() == whole
    assert compute.calls > 100


def test_a_computation_that_fails_leaves_nothing(clip, tmp_path):
    def fail() -> torch.Tensor:
        raise RuntimeError("no features")

    with pytest.raises(RuntimeError, match="no features"):
        FeatureCache(tmp_path / "cache", SETTINGS).get(clip, fail)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_nothing_but_whole_entries_is_left_behind(clip, tmp_path):
    cache = FeatureCache(tmp_path / "cache", SETTINGS)
    cache.get(clip, Compute())
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [cache.place(clip)]


def test_a_missing_clip_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        FeatureCache(tmp_path / "cache", SETTINGS).get(tmp_path / "gone.wav", Compute())


def test_features_of_real_audio(real_data, tmp_path):
    path = real_data / "clips" / "jfk.flac"

    def compute() -> torch.Tensor:
        return ast_features([read_audio(path)], n_frames=64, mean=0.0, std=0.5).values[0]

    cache = FeatureCache(tmp_path, SETTINGS)
    assert torch.equal(cache.get(path, compute), compute())
    assert torch.equal(cache.get(path, lambda: torch.zeros(1)), compute())
