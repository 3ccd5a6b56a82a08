"""Embeddings of clips: each clip once, kept by what they depend on, going on where a kill stopped them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_files import write_clip

from tome_audio.audio import AudioError
from tome_audio.audio.front_end import FrontEnd
from tome_audio.data import embeddings
from tome_audio.data.clips import DataError
from tome_audio.data.embeddings import embed_clips
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.segmented_clips import SegmentedClips

FRONT = FrontEnd(n_frames=8, n_mels=16)  # a quarter of a second


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Seven clips, every third of which is two segments long; three clips to a file."""
    monkeypatch.setattr(embeddings, "SHARD", 3)
    lengths = [0.4 if i % 3 == 2 else 0.2 for i in range(7)]
    paths = [write_clip(tmp_path / "clips" / f"{i}.wav", length, seed=i) for i, length in enumerate(lengths)]
    entries = tuple(Entry(path.stem, path, ("one",)) for path in paths)
    return SegmentedClips(Manifest(entries, ("one",)), FRONT)


class Embedding:
    """(B, V, T, F) to the mean of every mel bin (B, V, F); counts the segments it is asked for."""

    def __init__(self):
        self.n_segments = 0

    def __call__(self, views):
        self.n_segments += len(views)
        return views.mean(2)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_every_segment_is_embedded_once_and_in_order(clips, batch_size):
    asked = Embedding()
    found = embed_clips(clips, asked, {}, batch_size=batch_size)
    wanted = [clips.features(i).mean(1) for i in range(7)]
    torch.testing.assert_close(found.values[:, 0], torch.cat(wanted))
    assert found.clip.tolist() == [i for i, own in enumerate(wanted) for _ in own]
    assert found.clip.tolist().count(2) == 2 and asked.n_segments == len(found.clip)


def test_what_is_kept_is_not_computed_again(clips, tmp_path):
    first, second = Embedding(), Embedding()
    folder = tmp_path / "kept"
    one = embed_clips(clips, first, {"r": 0}, folder=folder)
    two = embed_clips(clips, second, {"r": 0}, folder=folder)
    assert first.n_segments == len(one.clip) and second.n_segments == 0
    assert torch.equal(one.values, two.values) and torch.equal(one.clip, two.clip)
    other = Embedding()
    embed_clips(clips, other, {"r": 8}, folder=folder)
    assert other.n_segments == len(one.clip)


def test_it_goes_on_after_a_kill_and_replaces_what_is_damaged(clips, tmp_path):
    folder = tmp_path / "kept"
    whole = embed_clips(clips, Embedding(), {})

    class Killed(Embedding):
        def __call__(self, views):
            if self.n_segments >= 6:
                raise KeyboardInterrupt
            return super().__call__(views)

    with pytest.raises(KeyboardInterrupt):
        embed_clips(clips, Killed(), {}, folder=folder, batch_size=1)
    files = sorted(folder.glob("*"))
    assert len(files) == 1
    rest = Embedding()
    found = embed_clips(clips, rest, {}, folder=folder)
    assert torch.equal(found.values, whole.values) and 0 < rest.n_segments < len(whole.clip)
    files[0].write_bytes(files[0].read_bytes()[:100])
    assert torch.equal(embed_clips(clips, Embedding(), {}, folder=folder).values, whole.values)


def test_views_are_embedded_beside_the_clip(clips):
    def twice(number, features):
        return torch.stack([features, features + number], 1)

    found = embed_clips(clips, Embedding(), {}, seen_as=twice, batch_size=2)
    assert found.values.shape[1] == 2
    torch.testing.assert_close(found.values[:, 1] - found.values[:, 0], found.clip[:, None].expand(-1, 16).float())


def test_what_cannot_be_embedded_is_named(clips, tmp_path):
    with pytest.raises(DataError, match=r"embedding of 4 \(.*4.wav\) is not finite"):
        embed_clips(clips, lambda views: views.mean(2) / (views[:, :, 0] != clips.features(4)[0, 0]).float(), {})
    missing = replace(clips.manifest.entries[0], path=tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="gone"):
        embed_clips(SegmentedClips(replace(clips.manifest, entries=(missing,)), FRONT), Embedding(), {})
    with pytest.raises(DataError, match="no clip"):
        embed_clips(SegmentedClips(replace(clips.manifest, entries=()), FRONT), Embedding(), {})


def test_a_short_clip_is_tiled_and_not_stretched(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(1600) / 16000)
    import soundfile

    soundfile.write(tmp_path / "tone.wav", tone, 16000)
    manifest = Manifest((Entry("tone", tmp_path / "tone.wav", ("one",)),), ("one",))
    tiled = SegmentedClips(manifest, FRONT).features(0)[0]
    slowed = SegmentedClips(manifest, replace(FRONT, legacy_repeat=True)).features(0)[0]
    assert tiled.mean(0).argmax() > slowed.mean(0).argmax()  # played twice as slowly, a tone falls
