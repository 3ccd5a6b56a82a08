from __future__ import annotations

import pytest
import torch

from tome_audio.audio import AstFeatures
from tome_audio.data.statistics import feature_statistics


def noise(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(n, generator=generator) for n in lengths]


def test_features_come_out_with_mean_0_and_standard_deviation_one_half():
    waveforms = noise(16000, 4000, 9000)
    found = feature_statistics(waveforms, n_frames=64)
    features = AstFeatures(found.n_frames, found.mean, found.std)(waveforms)
    heard = features.values[features.valid]
    assert found.n_frames == 64 and not features.valid.all()
    assert heard.mean().item() == pytest.approx(0, abs=1e-4)
    assert heard.std().item() == pytest.approx(0.5, abs=1e-4)


def test_padding_and_what_is_cut_off_do_not_count():
    clip = noise(4000)[0] + 0.2  # 23 frames
    exact, padded, head = (feature_statistics([clip], n_frames) for n_frames in (23, 100, 10))
    assert (exact.mean, exact.std) == (padded.mean, padded.std)
    assert feature_statistics([clip[: 400 + 9 * 160]], 10).std == pytest.approx(head.std, rel=1e-3)
    assert abs(head.std - exact.std) > 1e-4


def test_clips_without_any_sound_are_refused():
    with pytest.raises(ValueError, match="are the clips silent"):
        feature_statistics([torch.zeros(16000)], 64)
