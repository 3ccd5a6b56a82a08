from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_audio import DATA

from tome_audio.audio import (
    AST_STATISTICS,
    AstFeatures,
    ast_features,
    kaldi_fbank,
    normalise,
    pad_or_cut,
    read_audio,
)

MEAN, STD = -4.2677393, 4.5689974


def random_clip(n_samples, seed=0, offset=0.0):
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed)) + offset


def naive_features(clip, n_frames, mean=MEAN, std=STD):
    """One clip, in AST's order, with nothing shared with the batched path but the filter bank."""
    frames = kaldi_fbank(clip - clip.mean())
    values = torch.zeros(n_frames, 128, dtype=clip.dtype)
    seen = min(n_frames, len(frames))
    values[:seen] = frames[:seen]
    return (values - mean) / (2 * std), torch.arange(n_frames) < seen


class TestPadOrCut:
    def test_pads_with_zeros_at_the_end(self):
        features = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
        values, valid = pad_or_cut(features, 8)
        assert torch.equal(values[:, :5], features)
        assert values.shape == (2, 8, 3) and not values[:, 5:].any()
        assert valid.tolist() == [[True] * 5 + [False] * 3] * 2

    def test_keeps_the_head(self):
        features = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
        values, valid = pad_or_cut(features, 4)
        assert torch.equal(values, features[:, :4])
        assert valid.shape == (2, 4) and valid.all()

    def test_one_clip_and_equal_length(self):
        features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        values, valid = pad_or_cut(features, 5)
        assert torch.equal(values, features)
        assert valid.shape == (5,) and valid.all()

    def test_valid_may_be_written_to(self):
        _, valid = pad_or_cut(torch.zeros(2, 5, 3), 8)
        valid[0, 0] = False
        assert valid[1, 0]

    @pytest.mark.parametrize("shape", [(5,), (1, 1, 5, 3)])
    def test_wrong_shape(self, shape):
        with pytest.raises(ValueError, match=r"features must be \(N, M\) or \(B, N, M\), got shape"):
            pad_or_cut(torch.zeros(shape), 8)

    def test_no_frames(self):
        with pytest.raises(ValueError, match="n_frames must be at least 1, got 0"):
            pad_or_cut(torch.zeros(5, 3), 0)


class TestNormalise:
    def test_gives_mean_zero_and_half_the_deviation(self):
        features = torch.randn(1000, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        features = 3.0 * features - 4.0
        result = normalise(features, features.mean().item(), features.std().item())
        assert result.mean().item() == pytest.approx(0.0, abs=1e-12)
        assert result.std().item() == pytest.approx(0.5)

    @pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
    def test_std_must_be_positive(self, std):
        with pytest.raises(ValueError, match="std must be positive"):
            normalise(torch.zeros(3, 4), 0.0, std)


class TestAstFeatures:
    @pytest.mark.parametrize("n_samples", [400, 16000, 81920, 82240, 200000])
    def test_equals_the_naive_order(self, n_samples):
        clip = random_clip(n_samples, offset=0.05)
        features = AstFeatures(n_frames=512)([clip])
        values, valid = naive_features(clip, 512)
        torch.testing.assert_close(features.values[0], values, atol=1e-5, rtol=0)
        assert torch.equal(features.valid[0], valid)

    @settings(max_examples=25, deadline=None)
    @given(lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=6), seed=st.integers(0, 99))
    def test_every_clip_gets_what_it_gets_alone(self, lengths, seed):
        front = AstFeatures(n_frames=16)
        # Every length twice, so that clips of one length are computed together.
        clips = [random_clip(n, seed + i, offset=0.02 * i) for i, n in enumerate(lengths + lengths)]
        together = front(clips)
        for index, clip in enumerate(clips):
            alone = front([clip])
            torch.testing.assert_close(together.values[index], alone.values[0], atol=1e-5, rtol=0)
            assert torch.equal(together.valid[index], alone.valid[0])

    def test_tensor_and_list_agree(self):
        batch = torch.stack([random_clip(5000, seed) for seed in range(3)])
        front = AstFeatures(n_frames=64)
        from_tensor, from_list = front(batch), front(list(batch))
        assert torch.equal(from_tensor.values, from_list.values)
        assert torch.equal(from_tensor.valid, from_list.valid)
        assert from_tensor.values.shape == (3, 64, 128) and from_tensor.valid.shape == (3, 64)
        assert from_tensor.valid.dtype == torch.bool

    @pytest.mark.parametrize(("name", "padding"), [("audioset", 0.467), ("esc50", 0.618), ("speechcommands", 0.615)])
    def test_padding_is_zero_before_normalisation(self, name, padding):
        features = AstFeatures.for_dataset(name)([random_clip(4000)])
        beyond = features.values[~features.valid]
        assert len(beyond) == AST_STATISTICS[name].n_frames - 23
        torch.testing.assert_close(beyond, torch.full_like(beyond, padding), atol=6e-4, rtol=0)

    @pytest.mark.parametrize("n_samples", [1, 2, 399])
    def test_shorter_than_one_window_is_one_frame(self, n_samples):
        clip = random_clip(n_samples, offset=0.3)
        features = AstFeatures(n_frames=8)([clip])
        padded = torch.nn.functional.pad(clip - clip.mean(), (0, 400 - n_samples))
        wanted = normalise(kaldi_fbank(padded), MEAN, STD)
        torch.testing.assert_close(features.values[0, :1], wanted, atol=1e-5, rtol=0)
        assert features.valid.tolist() == [[True] + [False] * 7]

    def test_silence_is_valid_and_at_the_floor(self):
        features = AstFeatures(n_frames=20)([torch.zeros(16000)])
        floor = normalise(torch.tensor(math.log(2.0**-23)), MEAN, STD)
        torch.testing.assert_close(features.values, floor.expand(1, 20, 128))
        assert features.valid.all()

    def test_gradients_stay_with_their_clip(self):
        clips = [random_clip(n, n).requires_grad_() for n in (3000, 2000, 3000)]
        AstFeatures(n_frames=32)(clips).values[1].sum().backward()
        assert clips[1].grad.abs().max() > 0
        assert not any(clip.grad is not None and clip.grad.any() for clip in (clips[0], clips[2]))

    def test_input_is_left_alone(self):
        clip = random_clip(3000, offset=0.4)
        before = clip.clone()
        AstFeatures(n_frames=32)([clip])
        assert torch.equal(clip, before)

    def test_dtype_is_kept(self):
        front = AstFeatures(n_frames=32)
        assert front([random_clip(3000).double()]).values.dtype == torch.float64
        assert front([random_clip(3000).bfloat16()]).values.dtype == torch.bfloat16

    def test_other_mels_and_rate(self):
        front = AstFeatures(n_frames=50, n_mels=40, sample_rate=8000)
        features = front([random_clip(4000)])
        wanted = kaldi_fbank(random_clip(4000) - random_clip(4000).mean(), sample_rate=8000, n_mels=40)
        torch.testing.assert_close(features.values[0, :48], normalise(wanted, MEAN, STD), atol=1e-5, rtol=0)

    def test_module_has_no_state_and_pickles(self):
        front = AstFeatures.for_dataset("esc50")
        assert not front.state_dict()
        again = pickle.loads(pickle.dumps(front))
        assert repr(again) == repr(front) and "n_frames=512" in repr(front)
        clips = [random_clip(3000)]
        assert torch.equal(again(clips).values, front(clips).values)

    def test_function_equals_module(self):
        clips = [random_clip(3000), random_clip(5000, 1)]
        function = ast_features(clips, n_frames=32, mean=MEAN, std=STD)
        assert torch.equal(function.values, AstFeatures(n_frames=32)(clips).values)


@pytest.fixture(scope="module", params=sorted(AST_STATISTICS))
def pair(request):
    transformers = pytest.importorskip("transformers", reason="transformers' extractor is the reference")
    chosen = AST_STATISTICS[request.param]
    extractor = transformers.ASTFeatureExtractor(max_length=chosen.n_frames, mean=chosen.mean, std=chosen.std)
    return AstFeatures.for_dataset(request.param), extractor


class TestAgainstTransformers:
    def check(self, pair, clips):
        front, extractor = pair
        arrays = [clip.numpy() for clip in clips]
        wanted = np.stack(extractor(arrays, sampling_rate=16000)["input_values"])
        np.testing.assert_allclose(front(clips).values.numpy(), wanted, atol=1e-4, rtol=0)

    def test_random_clips_of_many_lengths(self, pair):
        self.check(pair, [random_clip(n, n) for n in (400, 5000, 16000, 16000, 81000, 170000)])

    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real audio in {DATA} (set TOME_AUDIO_DATA)")
    @pytest.mark.parametrize("folder", ["esc50", "speech_commands", "clips"])
    def test_real_clips(self, pair, folder):
        paths = sorted((DATA / folder).rglob("*.flac"))[::600]
        assert paths
        self.check(pair, [read_audio(path) for path in paths])

    def test_defaults_are_those_of_transformers(self):
        transformers = pytest.importorskip("transformers", reason="transformers' extractor is the reference")
        extractor, front = transformers.ASTFeatureExtractor(), AstFeatures()
        assert (front.n_frames, front.n_mels) == (extractor.max_length, extractor.num_mel_bins)
        assert (front.mean, front.std, front.sample_rate) == (extractor.mean, extractor.std, extractor.sampling_rate)


class TestErrors:
    @pytest.mark.parametrize("shape", [(), (16000,), (2, 1, 16000)])
    def test_tensor_shape(self, shape):
        with pytest.raises(ValueError, match=r"a waveform tensor must be \(B, T\), got shape"):
            AstFeatures()(torch.zeros(shape))

    @pytest.mark.parametrize("bad", [torch.zeros(2, 500), torch.zeros(()), torch.zeros(0), np.zeros(500), 3.0])
    def test_clip_shape(self, bad):
        with pytest.raises(ValueError, match=r"waveform 1 must be a tensor of shape \(T,\) with T >= 1, got"):
            AstFeatures()([torch.zeros(500), bad])

    @pytest.mark.parametrize("nothing", [[], (), torch.zeros(0, 500)])
    def test_no_clips(self, nothing):
        with pytest.raises(ValueError, match="no waveforms: give at least one clip"):
            AstFeatures()(nothing)

    def test_no_samples(self):
        with pytest.raises(ValueError, match=r"waveform 0 must be .* T >= 1"):
            AstFeatures()(torch.zeros(2, 0))

    @pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool])
    def test_integers(self, dtype):
        with pytest.raises(ValueError, match=r"waveform 0 must have a float dtype .*/ 32768"):
            AstFeatures()([torch.zeros(500, dtype=dtype)])

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value):
        clips = [random_clip(500), random_clip(500), random_clip(500)]
        clips[2][77] = value
        with pytest.raises(ValueError, match="waveform 2 holds NaN or infinite samples"):
            AstFeatures()(clips)

    def test_mixed_dtypes(self):
        with pytest.raises(ValueError, match=r"waveform 1 is torch\.float64 on cpu and waveform 0 is torch\.float32"):
            AstFeatures()([torch.zeros(500), torch.zeros(500, dtype=torch.float64)])

    def test_unknown_dataset(self):
        with pytest.raises(ValueError, match=r"'urbansound'.*choose one of audioset, esc50, speechcommands"):
            AstFeatures.for_dataset("urbansound")

    def test_bad_settings(self):
        with pytest.raises(ValueError, match="n_frames must be at least 1"):
            AstFeatures(n_frames=0)([torch.zeros(500)])
        with pytest.raises(ValueError, match="std must be positive"):
            AstFeatures(std=0.0)([torch.zeros(500)])
