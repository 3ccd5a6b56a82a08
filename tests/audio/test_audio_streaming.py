import numpy as np
import pytest
import soundfile
import torch
from audio_files import CODECS, RATE, encode, noise, save, tone

from tome_audio.audio import AudioError, read_audio, reading, streaming
from tome_audio.audio.streaming import stream_audio


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 5000)
    monkeypatch.setattr(streaming, "_BLOCK_SAMPLES", 3000)


@pytest.mark.parametrize("rate", [RATE, 8000, 11025, 22050, 44100, 48000])
def test_the_blocks_are_what_reading_at_once_gives(tmp_path, small_blocks, rate):
    path = save(tmp_path, "clip.wav", encode(noise(3.3, rate), "wav", rate, "FLOAT"))
    blocks = list(stream_audio(path, RATE))
    assert len(blocks) > 5
    torch.testing.assert_close(torch.cat(blocks), read_audio(path, RATE), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", CODECS)
def test_channels_and_codecs(tmp_path, small_blocks, kind):
    samples = np.stack([noise(2.0, 44100), tone(2.0, 44100)], axis=1)
    path = save(tmp_path, "clip", encode(samples, kind, 44100))
    blocks = list(stream_audio(path, RATE))
    assert len(blocks) > 5
    torch.testing.assert_close(torch.cat(blocks), read_audio(path, RATE), atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_samples", [1, 3, 100, 5000, 5001])
def test_any_number_of_samples(tmp_path, small_blocks, n_samples):
    path = save(tmp_path, "clip.wav", encode(noise(1.0, 44100)[:n_samples], "wav", 44100, "FLOAT"))
    torch.testing.assert_close(torch.cat(list(stream_audio(path))), read_audio(path), atol=1e-6, rtol=0)


def test_peaks_are_clipped(tmp_path):
    path = save(tmp_path, "clip.wav", encode(tone(peak=2.0), "wav", subtype="FLOAT"))
    assert torch.cat(list(stream_audio(path))).abs().max() == 1


def test_a_file_that_was_cut_gives_its_blocks_and_then_an_error(tmp_path, small_blocks):
    content = encode(noise(), "wav")
    path = save(tmp_path, "cut.wav", content[: len(content) // 2])
    n_samples = 0
    with pytest.raises(AudioError, match="is cut short") as caught:
        for block in stream_audio(path):
            n_samples += len(block)
    assert caught.value.kind == "truncated" and n_samples > 0.4 * len(noise())


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", "empty", "is empty"),
        (b"RIFF", "damaged", "cannot be decoded"),
        (encode(np.zeros(0), "wav"), "empty", "holds no samples"),
        (encode(np.full(9, np.nan), "wav", subtype="FLOAT"), "not finite", "NaN"),
    ],
)
def test_what_is_no_audio_is_named_with_its_kind(tmp_path, content, kind, message):
    path = save(tmp_path, "clip.wav", content)
    with pytest.raises(AudioError, match=message) as caught:
        list(stream_audio(path))
    assert caught.value.kind == kind and str(path) in str(caught.value)


def test_what_is_wrong_with_the_call(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        list(stream_audio(tmp_path / "none.wav"))
    with pytest.raises(ValueError, match="sample_rate must be a positive"):
        stream_audio(tmp_path / "none.wav", 0)
    path = tmp_path / "odd.wav"
    soundfile.write(path, noise(0.1), 44101)
    with pytest.raises(AudioError, match="no useful divisor"):
        list(stream_audio(path))
