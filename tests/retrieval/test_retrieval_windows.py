import math

import numpy as np
import pytest
import torch
from melodies import RATE, MelodyEmbedder, melody, save

from tome_audio.audio import AudioError, read_audio, reading
from tome_audio.retrieval.windows import stream_windows


@pytest.fixture
def embedder():
    return MelodyEmbedder()


def everything(path, embedder, **options):
    batches = list(stream_windows(path, embedder, **options))
    return torch.cat([batch.starts for batch in batches]), torch.cat([batch.values for batch in batches])


@pytest.mark.parametrize("rate", [RATE, 11025, 44100])
@pytest.mark.parametrize("hop", [1.0, 0.33, 2.7])
def test_windows_are_those_of_the_file_read_at_once(tmp_path, embedder, monkeypatch, rate, hop):
    seconds = 9.7
    samples = np.interp(np.arange(round(seconds * rate)) / rate, np.arange(80000) / RATE, melody(1, 10.0))
    path = save(tmp_path / "a.wav", samples, rate)
    whole = embedder.frames(read_audio(path, RATE))
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 7001)
    starts, values = everything(path, embedder, hop=hop, block_seconds=0.1, batch_size=3)
    wanted = [round(k * hop * 20) for k in range(40) if round(k * hop * 20) + 40 <= len(whole)]
    if (rest := len(whole) - 40 - wanted[-1]) >= 4:
        wanted.append(wanted[-1] + rest)
    assert (starts * 20).tolist() == pytest.approx(wanted)
    torch.testing.assert_close(values, torch.stack([whole[f : f + 40] for f in wanted]), atol=2e-4, rtol=1e-4)


def test_block_sizes_change_nothing(tmp_path, embedder):
    path = save(tmp_path / "a.flac", melody(2, 30.0))
    one, other = (everything(path, embedder, block_seconds=seconds) for seconds in (3.0, math.inf))
    assert torch.equal(one[0], other[0]) and one[0].tolist() == [float(k) for k in range(29)]
    torch.testing.assert_close(one[1], other[1], atol=1e-4, rtol=1e-4)


def test_batches_are_full_but_for_the_last(tmp_path, embedder):
    path = save(tmp_path / "a.flac", melody(2, 12.0))
    assert [len(batch.starts) for batch in stream_windows(path, embedder, batch_size=4)] == [4, 4, 3]


def test_the_length_of_the_file_is_told(tmp_path, embedder):
    path, heard = save(tmp_path / "a.flac", melody(2, 12.3)), []
    list(stream_windows(path, embedder, on_seconds=heard.append))
    assert heard == sorted(heard) and heard[-1] == pytest.approx(12.3)


@pytest.mark.parametrize(("seconds", "starts"), [(0.5, [0]), (1.99, [0]), (2.0, [0]), (2.1, [0]), (2.3, [0, 0.35])])
def test_short_files_have_one_window_or_one_more(tmp_path, embedder, seconds, starts):
    path = save(tmp_path / "a.wav", melody(3, seconds))
    found, values = everything(path, embedder)
    assert found.tolist() == pytest.approx(starts) and values.shape[1:] == (40, 48)
    padded = torch.cat([read_audio(path, RATE), torch.zeros(RATE * 3)])
    n_whole = min(40, int(seconds * 20) - 1)
    torch.testing.assert_close(values[0, :n_whole], embedder.frames(padded)[:n_whole])


def test_windows_without_sound_are_left_out(tmp_path, embedder):
    samples = np.concatenate([np.zeros(5 * RATE), melody(3, 3.0), 5e-5 * np.ones(4 * RATE)])
    path = save(tmp_path / "a.wav", samples, subtype="FLOAT")
    starts, _ = everything(path, embedder)
    assert starts.tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("samples", "kind", "message"),
    [
        (np.zeros(5 * RATE), "silent", "is silent from beginning to end"),
        (np.zeros(RATE), "silent", "is silent"),
        (melody(0, 0.49), "too short", r"is 0.49 s long where 0.5 s are needed"),
        (np.zeros(3), "too short", "where 0.5 s are needed"),
        (np.zeros(0), "empty", "holds no samples"),
    ],
)
def test_files_of_no_use_are_named_with_what_is_wrong(tmp_path, embedder, samples, kind, message):
    path = save(tmp_path / "a.wav", samples)
    with pytest.raises(AudioError, match=message) as caught:
        list(stream_windows(path, embedder))
    assert caught.value.kind == kind and str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"hop": 0}, {"hop": math.nan}, {"hop": -1}, {"hop": 0.01}, {"batch_size": 0}, {"block_seconds": 0}]
)
def test_bad_options(tmp_path, embedder, options):
    with pytest.raises(ValueError, match="must be"):
        stream_windows(tmp_path / "a.wav", embedder, **options)


def test_a_front_end_with_too_few_frames_is_an_error(tmp_path, embedder, monkeypatch):
    path = save(tmp_path / "a.wav", melody(3, 1.0))
    monkeypatch.setattr(embedder, "frames", lambda waveform: torch.zeros(3, 48), raising=False)
    with pytest.raises(ValueError, match="gives 3 frames"):
        list(stream_windows(path, embedder))
