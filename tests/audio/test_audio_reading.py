from __future__ import annotations

import math
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from audio_files import CODECS, RATE, encode, noise, read_or_refuse, save, tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_audio import DATA

from tome_audio.audio import AudioError, is_silent, read_audio


@pytest.mark.parametrize(
    ("kind", "subtype", "atol"),
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("wav", "ULAW", 0.02),
        ("flac", "PCM_S8", 2**-7),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
    ],
)
def test_lossless_samples_come_back_within_one_step(tmp_path, kind, subtype, atol):
    samples = tone()
    path = save(tmp_path, f"clip.{kind}", encode(samples, kind, subtype=subtype))
    np.testing.assert_allclose(read_audio(path).numpy(), samples, atol=atol, rtol=0)


@pytest.mark.parametrize(("kind", "subtype"), [("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III")])
def test_lossy_files_of_many_blocks_keep_length_and_content(tmp_path, kind, subtype):
    # Longer than one block of decoding: blocks must join without a gap.
    time = np.arange(80 * RATE) / RATE
    samples = 0.4 * np.sin(2 * np.pi * (200 + 5 * time) * time)
    path = save(tmp_path, f"clip.{kind}", encode(samples, kind, subtype=subtype))
    whole, _ = soundfile.read(path, dtype="float32")
    waveform = read_audio(path)
    np.testing.assert_allclose(waveform.numpy(), whole, atol=1e-6)
    assert len(waveform) == len(samples)
    assert np.corrcoef(waveform.numpy(), samples)[0, 1] > 0.9


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_mixed_by_their_mean(tmp_path, channels):
    samples = np.stack([noise() * (k + 1) / channels for k in range(channels)], axis=1)
    path = save(tmp_path, "clip.wav", encode(samples, "wav", subtype="FLOAT"))
    np.testing.assert_allclose(read_audio(path).numpy(), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_resampling_keeps_a_tone_and_the_duration(tmp_path, rate):
    path = save(tmp_path, "clip.wav", encode(tone(1.0, rate), "wav", rate, "FLOAT"))
    waveform = read_audio(path)
    assert len(waveform) == RATE
    inner = slice(400, -400)  # the resampling filter sees the clip's ends
    np.testing.assert_allclose(waveform.numpy()[inner], tone()[inner], atol=5e-3)


def test_resampling_is_that_of_torchaudio(tmp_path):
    functional = pytest.importorskip("torchaudio.functional")
    samples = noise(rate=44100)
    path = save(tmp_path, "clip.wav", encode(samples, "wav", 44100, "FLOAT"))
    wanted = functional.resample(torch.from_numpy(samples).float(), 44100, 22050)
    torch.testing.assert_close(read_audio(path, 22050), wanted.clamp(-1, 1))


def test_peaks_above_full_scale_are_clipped(tmp_path):
    path = save(tmp_path, "hot.wav", encode(tone(peak=2.0), "wav", subtype="FLOAT"))
    waveform = read_or_refuse(path)
    assert waveform.max() == 1
    quiet = torch.from_numpy(tone(peak=2.0)).float().clamp(-1, 1)
    torch.testing.assert_close(waveform, quiet)


def test_square_wave_resampled_stays_in_range(tmp_path):
    path = save(tmp_path, "square.wav", encode(np.sign(tone(rate=44100)), "wav", 44100, "FLOAT"))
    assert read_or_refuse(path) is not None


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("extension", ["txt", "raw", "vox", "sd2", "mp3", "wav", "flac", ""])
def test_content_decides_not_the_extension(tmp_path, kind, extension):
    path = save(tmp_path, f"clip.{extension}", encode(tone(), kind))
    same = save(tmp_path, f"right.{kind}", encode(tone(), kind))
    assert torch.equal(read_audio(path), read_audio(same))


@pytest.mark.parametrize("n_samples", [1, 2, 7, 160])
@pytest.mark.parametrize("rate", [8000, 16000, 96000])
def test_very_short_clips(tmp_path, n_samples, rate):
    path = save(tmp_path, "short.wav", encode(np.full(n_samples, 0.25), "wav", rate))
    waveform = read_or_refuse(path)
    assert len(waveform) == math.ceil(n_samples * RATE / rate)


def test_string_and_path_give_the_same(tmp_path):
    path = save(tmp_path, "clip mit Ümlaut.wav", encode(noise(), "wav"))
    assert torch.equal(read_audio(str(path)), read_audio(path))


class TestMaxSeconds:
    @pytest.mark.parametrize("kind", CODECS)
    def test_is_a_prefix_of_the_whole(self, tmp_path, kind):
        path = save(tmp_path, f"clip.{kind}", encode(noise(3.0), kind))
        whole, part = read_audio(path), read_audio(path, max_seconds=1.25)
        assert len(part) == 20000
        torch.testing.assert_close(part, whole[:20000], atol=1e-6, rtol=0)

    def test_longer_than_the_file_is_the_file(self, tmp_path):
        path = save(tmp_path, "clip.wav", encode(noise(), "wav"))
        assert torch.equal(read_audio(path, max_seconds=60), read_audio(path))

    def test_length_at_another_rate(self, tmp_path):
        path = save(tmp_path, "clip.wav", encode(noise(3.0, 44100), "wav", 44100))
        assert len(read_audio(path, max_seconds=0.5)) == 8000

    def test_a_part_before_the_cut_is_readable(self, tmp_path):
        content = encode(noise(4.0), "wav")
        path = save(tmp_path, "cut.wav", content[: len(content) // 2])
        assert len(read_audio(path, max_seconds=1.0)) == RATE

    @pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
    def test_must_be_positive(self, tmp_path, value):
        with pytest.raises(ValueError, match="max_seconds must be a positive number"):
            read_audio(tmp_path / "any.wav", max_seconds=value)


@pytest.mark.parametrize("value", [0, -16000])
def test_sample_rate_must_be_positive(tmp_path, value):
    with pytest.raises(ValueError, match="sample_rate must be a positive number"):
        read_audio(tmp_path / "any.wav", value)


class TestRefused:
    def refused(self, path, match):
        with pytest.raises(AudioError, match=match) as caught:
            read_audio(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "none.wav", "no such file")

    def test_folder(self, tmp_path):
        self.refused(tmp_path, "is a folder")

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.wav")
        self.refused(tmp_path / "pipe.wav", "not a regular file")

    def test_empty(self, tmp_path):
        self.refused(save(tmp_path, "empty.wav", b""), r"is empty \(0 bytes\)")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_forbidden(self, tmp_path):
        path = save(tmp_path, "locked.wav", encode(tone(), "wav"))
        path.chmod(0)
        self.refused(path, "check its permissions")

    def test_no_samples(self, tmp_path):
        self.refused(save(tmp_path, "none.wav", encode(np.zeros(0), "wav")), "holds no samples")

    @pytest.mark.parametrize("name", ["page.wav", "page.mp3", "page.raw", "page.vox", "page"])
    def test_text(self, tmp_path, name):
        self.refused(save(tmp_path, name, b"<html>404 not found</html>\n" * 50), "cannot be decoded as audio")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
    def test_not_finite(self, tmp_path, value, subtype):
        samples = tone()
        samples[77] = value
        path = save(tmp_path, "nan.wav", encode(samples, "wav", subtype=subtype))
        self.refused(path, "NaN or infinite")

    def test_integers_written_as_floats(self, tmp_path):
        path = save(tmp_path, "loud.wav", encode(tone() * 32768, "wav", subtype="FLOAT"))
        self.refused(path, r"peak of 16384 where full scale is 1; scale it")

    @pytest.mark.parametrize("rate", [1, 999, 2_000_000, 2**31 - 1])
    def test_absurd_rate(self, tmp_path, rate):
        content = bytearray(encode(tone(), "wav"))
        struct.pack_into("<I", content, 24, rate)
        self.refused(save(tmp_path, "rate.wav", content), f"{rate} Hz as sample rate")

    def test_rate_without_common_divisor(self, tmp_path):
        path = save(tmp_path, "odd.wav", encode(tone(rate=44101), "wav", 44101))
        self.refused(path, "44101 Hz shares no useful divisor with 16000 Hz; convert it")

    def test_error_survives_pickle(self, tmp_path):
        error = AudioError(tmp_path / "a.wav", "is bad; replace it")
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and isinstance(again, AudioError) and isinstance(again, ValueError)


class TestTorchaudioMissing:
    def test_resampling_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchaudio", None)
        monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
        path = save(tmp_path, "clip.wav", encode(tone(rate=8000), "wav", 8000))
        with pytest.raises(
            ImportError, match=r"from 8000 to 16000 Hz needs torchaudio.*install torch, torchvision and torchaudio"
        ):
            read_audio(path)

    def test_the_right_rate_needs_none(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchaudio", None)
        monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
        assert len(read_audio(save(tmp_path, "clip.wav", encode(tone(), "wav")))) == RATE

    def test_importing_the_package_does_not_load_it(self):
        code = "import sys, tome_audio.audio; sys.exit('torchaudio' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestFuzz:
    SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    MAGIC = st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x04", b"\xff\xfb\x90\x64", b"FORM", b".snd"])

    @SETTINGS
    @given(magic=MAGIC, content=st.binary(max_size=2000), extension=st.sampled_from(["wav", "mp3", "raw", "bin"]))
    def test_random_bytes(self, tmp_path, magic, content, extension):
        read_or_refuse(save(tmp_path, f"random.{extension}", magic + content))

    @SETTINGS
    @given(
        kind=st.sampled_from(sorted(CODECS)),
        edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
        header_only=st.booleans(),
    )
    def test_damaged_files(self, tmp_path, kind, edits, header_only):
        content = bytearray(encode(tone(0.3), kind))
        for place, value in edits:
            content[int(place * (min(100, len(content)) if header_only else len(content)))] = value
        read_or_refuse(save(tmp_path, f"damaged.{kind}", content))

    @SETTINGS
    @given(samples=st.lists(st.floats(width=32), min_size=1, max_size=50))
    def test_any_float_samples(self, tmp_path, samples):
        path = save(tmp_path, "floats.wav", encode(np.array(samples), "wav", subtype="FLOAT"))
        waveform = read_or_refuse(path)
        usable = np.isfinite(samples).all() and np.abs(samples).max() <= 16
        assert (waveform is not None) == usable


class TestIsSilent:
    def test_zeros_read_from_a_file_are(self, tmp_path):
        waveform = read_audio(save(tmp_path, "silent.wav", encode(np.zeros(1000), "wav")))
        assert len(waveform) == 1000 and is_silent(waveform)

    def test_one_sample_breaks_silence(self):
        waveform = torch.zeros(1000)
        waveform[500] = -(2**-15)
        assert not is_silent(waveform)
        assert is_silent(waveform, threshold=2**-15)

    def test_nan_is_not_silence(self):
        assert not is_silent(torch.tensor([0.0, math.nan]))

    def test_nothing_is(self):
        assert is_silent(torch.zeros(0))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real audio in {DATA} (set TOME_AUDIO_DATA)")
@pytest.mark.parametrize(
    ("folder", "rate"), [("esc50", 16000), ("fsdd/recordings", 8000), ("clips", 16000), ("speech_commands", 16000)]
)
def test_real_clips(folder, rate):
    paths = sorted((DATA / folder).rglob("*.flac"))[::200]
    assert paths
    for path in paths:
        info = soundfile.info(path)
        assert info.samplerate == rate
        waveform = read_or_refuse(path)
        assert waveform is not None and len(waveform) == math.ceil(info.frames * RATE / rate)


def test_hundreds_of_channels_are_mixed_down_as_they_are_read(tmp_path):
    """In memory all channels of this clip would be 38 MB."""
    import tracemalloc

    path = tmp_path / "many.wav"
    one = noise(2.0, 48000)
    soundfile.write(path, np.stack([one] * 50 + [-one / 2] * 50, axis=1), 48000)
    tracemalloc.start()
    mixed = read_audio(path, 48000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24 and np.abs(mixed.numpy() - one / 4).max() < 1e-4
