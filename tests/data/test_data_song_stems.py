"""Stems on disk: found by song, kept once computed, and every bad song named."""

import numpy as np
import pytest
import soundfile
import torch

from tome_audio.audio.reading import AudioError
from tome_audio.audio.vqt import VqtFrontEnd
from tome_audio.data.clips import DataError
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.song_stems import Stems, all_amplitudes, amplitudes, find_stems

FRONT_END = VqtFrontEnd()


def write(path, seconds=1.0, seed=0, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(abs(seed)).standard_normal(int(seconds * rate))
    soundfile.write(path, samples if seed >= 0 else 0 * samples, rate)
    return path


@pytest.fixture
def folder(tmp_path):
    for song, stems in (("b", ("bass", "drums")), ("a", ("lead",))):
        for i, stem in enumerate(stems):
            write(tmp_path / "stems/train" / song / f"{stem}.flac", seed=i)
    write(tmp_path / "stems/train/whole.wav", seed=7)
    (tmp_path / "stems/train/notes.txt").write_text("no audio")
    return tmp_path


def test_songs_are_folders_of_stems_or_single_files(folder):
    found = find_stems(folder, "train")
    assert [(song.id, [p.name for p in song.paths]) for song in found] == [
        ("a", ["lead.flac"]), ("b", ["bass.flac", "drums.flac"]), ("whole", ["whole.wav"])
    ]  # fmt: skip


def test_amplitudes_are_roots_of_the_front_ends_power(folder):
    song = find_stems(folder, "train")[1]
    found = amplitudes(song, FRONT_END)
    assert found.shape == (2, 1 + 16000 // 768, 160) and found.dtype == torch.float16
    samples, _ = soundfile.read(song.paths[1], dtype="float32")
    expected = FRONT_END.power(torch.from_numpy(samples)).sqrt()
    torch.testing.assert_close(found[1].float(), expected, rtol=1e-3, atol=1e-6)


def test_the_cache_gives_the_same_and_reads_no_file_again(folder, tmp_path, monkeypatch):
    song, cache = find_stems(folder, "train")[0], FeatureCache(tmp_path / "cache", FRONT_END.facts())
    first = amplitudes(song, FRONT_END, cache)
    monkeypatch.setattr("tome_audio.data.song_stems.read_audio", lambda *_: pytest.fail("read again"))
    assert torch.equal(amplitudes(song, FRONT_END, cache), first)


def test_songs_that_cannot_be_used_are_left_out_by_name(folder):
    root = folder / "stems/train"
    write(root / "quiet/one.wav", seed=-1)
    write(root / "short.wav", seconds=0.2)
    write(root / "uneven/1.wav")
    write(root / "uneven/2.wav", seconds=0.5)
    (root / "broken.flac").write_bytes(b"fLaC and no more")
    done = []
    kept, problems = all_amplitudes(find_stems(folder, "train"), FRONT_END, n_frames=20, on_song=done.append)
    assert len(kept) == 3 and done == list(range(1, 8))
    for name, said in (("quiet", "silent"), ("short", "frames"), ("2.wav", "of one length"), ("broken", "cannot be")):
        assert any(name in line and said in line for line in problems), name


@pytest.mark.parametrize("part", ["valid", "empty"])
def test_a_part_without_songs_says_what_is_expected(folder, part):
    (folder / "stems/empty").mkdir()
    with pytest.raises(DataError, match=f"stems/{part}"):
        find_stems(folder, part)


def test_a_missing_stem_is_an_error_with_and_without_a_cache(tmp_path):
    for cache in (None, FeatureCache(tmp_path, FRONT_END.facts())):
        with pytest.raises(AudioError, match="no such file"):
            amplitudes(Stems("a", (tmp_path / "a.flac",)), FRONT_END, cache)
