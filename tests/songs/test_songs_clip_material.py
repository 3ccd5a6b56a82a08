"""Worlds of real clips: who is sampled, who is not, and what sounds beside them."""

import numpy as np
import pytest
import soundfile

from tome_audio.data.clips import DataError
from tome_audio.data.corpora.esc50 import prepare_esc50
from tome_audio.songs.clip_material import PoolClip, clips_below, draw_clip_material, usable
from tome_audio.songs.finishing import loudness
from tome_audio.songs.flips import FlipOptions
from tome_audio.songs.world_folder import write_world
from tome_audio.songs.worlds import PartCounts, WorldOptions, make_track, plan_world

RATE = 16000
ALONE = FlipOptions((1, 4), (0, 0), (1, 1), (-6, 0), equaliser_db=0, loops=1, throughout=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty clips of noise of 2 to 4 s, two of each recording."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(30):
        level = rng.uniform(0.02, 0.3)
        soundfile.write(root / f"{number:02}.flac", level * rng.uniform(-1, 1, rng.integers(2, 4) * RATE), RATE)
    return root


@pytest.fixture(scope="module")
def clips(folder):
    files = sorted(folder.iterdir())
    return [PoolClip(path.stem, path, "test", f"source {i // 2}", "noise") for i, path in enumerate(files)]


def test_originals_distractors_and_beds_share_no_recording(clips):
    material = draw_clip_material(clips, {"test": (4, 5)}, seed=3)
    uses = [material.originals["test"], material.distractors["test"], material.beds["test"]]
    assert [len(use) for use in uses] == [4, 5, 16]
    sources = [{clip.source for clip in use} for use in uses]
    assert len(sources[0]) == 4 and not sources[0] & sources[1] and not (sources[0] | sources[1]) & sources[2]
    assert draw_clip_material(clips, {"test": (4, 5)}, seed=3) == material
    assert draw_clip_material(clips, {"test": (4, 5)}, seed=4).originals != material.originals


def test_a_world_of_clips_is_written_with_the_clips_in_its_tables(clips, tmp_path):
    options = WorldOptions(parts={"test": PartCounts(3, 2, 4, 5, 1)}, flip=ALONE, seconds=6.0, material_seconds=4.0)
    material = draw_clip_material(clips, {"test": (4, 5)}, seed=3)
    table = write_world(options, material, tmp_path)
    for number, clip in enumerate(material.originals["test"]):
        track = table.tracks[f"test-original-{number:04}"]
        assert (track.title, track.genre) == (clip.id, "noise")
        own, written = (soundfile.read(path)[0] for path in (clip.path, track.path))
        assert len(own) == len(written) and np.corrcoef(own[RATE:-RATE], written[RATE:-RATE])[0, 1] > 0.999
    songs = [song for song in table.songs("test") if table.originals_of(song.id)]
    assert len(songs) == 3 and len(table.songs("test")) == 5
    for song in songs:
        (row,) = table.occurrences_of(song.id)
        heard, original = (soundfile.read(table.tracks[name].path)[0] for name in (song.id, row.original))
        piece = original[round(row.original_start * RATE) : round(row.original_end * RATE)]
        begin = round(row.song_start * RATE)
        share = np.corrcoef(heard[begin : begin + len(piece)], piece)[0, 1]
        # The rest is other noise, louder by as much as the level says.
        assert share**2 == pytest.approx(1 / (1 + 10 ** (-row.level_db / 10)), abs=0.15)
    assert len(list((tmp_path / "stems" / "test" / "test-material-0000").iterdir())) in (2, 3, 4)


def test_what_sounds_beside_a_sample_fills_the_song_and_is_as_loud_in_more_layers(clips):
    for layers in (1, 3):
        material = draw_clip_material(clips, {"test": (4, 5)}, seed=3, layers=layers)
        song = material.song(np.random.default_rng(1), "test", 15.0, None).samples
        frames = np.sqrt((song.reshape(-1, RATE // 4) ** 2).mean(axis=1))
        assert song.shape == (15 * RATE,) and frames.min() > 0.3 * loudness(song, RATE)


def test_too_few_clips_are_told_with_what_to_change(clips):
    options = WorldOptions(parts={"test": PartCounts(5, 0, 10, 10)}, flip=ALONE)
    with pytest.raises(DataError, match=r"part test of the clips is too small: 1 clips for songs are wanted"):
        write_world(options, draw_clip_material(clips, {"test": (10, 10)}, seed=0), "never-made")
    with pytest.raises(DataError, match=r"10 distractors are wanted and 6 are left.*--test\.n_distractors"):
        write_world(options, draw_clip_material(clips, {"test": (12, 10)}, seed=0), "never-made")
    with pytest.raises(DataError, match="part valid is wanted and no clip is in it"):
        other = WorldOptions(parts={"valid": PartCounts(1, 0, 1)})
        write_world(other, draw_clip_material(clips, {}, seed=0), "never-made")
    with pytest.raises(DataError, match="originals that all parts share are drawn songs"):
        shared = WorldOptions(parts={"test": PartCounts(1)}, shared_originals=2)
        write_world(shared, draw_clip_material(clips, {}, seed=0), "never-made")


def test_a_recording_in_two_parts_and_no_layers_are_refused(clips):
    with pytest.raises(DataError, match="clips of the recording source 0 are in test and in train"):
        draw_clip_material([*clips, PoolClip("x", clips[0].path, "train", "source 0")], {}, seed=0)
    with pytest.raises(DataError, match="layers must be between 1 and 8"):
        draw_clip_material(clips, {}, seed=0, layers=0)


def test_clips_that_cannot_be_used_are_named(folder, tmp_path):
    silence, noise = np.zeros(RATE), np.random.default_rng(0).uniform(-0.1, 0.1, RATE)
    soundfile.write(tmp_path / "silent.wav", silence, RATE)
    soundfile.write(tmp_path / "short.wav", noise[:4000], RATE)
    soundfile.write(tmp_path / "good.wav", noise, RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF but not really")
    (tmp_path / "empty.flac").write_bytes(b"")
    seen = []
    good, errors = usable(clips_below(tmp_path), on_progress=lambda done, total: seen.append((done, total)))
    assert [clip.id for clip in good] == ["good"] and seen[-1] == (5, 5)
    said = "\n".join(str(error) for error in errors)
    assert all(name in said for name in ("silent.wav: is silent", "short.wav: is shorter", "broken.wav", "empty.flac"))


def test_a_plain_folder_is_split_and_folders_named_after_parts_are_parts(folder, tmp_path):
    found = clips_below(folder, seed=1)
    counts = {part: sum(clip.part == part for clip in found) for part in ("train", "valid", "test")}
    assert counts == {"train": 18, "valid": 6, "test": 6} and len({clip.path for clip in found}) == 30
    assert found == clips_below(folder, seed=1) != clips_below(folder, seed=2)
    for name in ("train/a.wav", "validation/b.wav", "test/deep/c.wav", "elsewhere/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / name, np.zeros(10), RATE)
    assert {clip.id: clip.part for clip in clips_below(tmp_path)} == {
        "train/a": "train", "validation/b": "valid", "test/deep/c": "test"
    }  # fmt: skip
    with pytest.raises(DataError, match="holds no audio"):
        clips_below(tmp_path / "nowhere")


def test_esc50_gives_songs_of_its_fold(real_data):
    found = prepare_esc50(real_data / "esc50", 5)
    clips = [PoolClip(e.id, e.path, "test", e.source or e.id, e.labels[0]) for e in found.entries if e.split == "test"]
    material = draw_clip_material(clips, {"test": (100, 100)}, seed=0)
    options = WorldOptions(parts={"test": PartCounts(2, 1, 100, 100)}, flip=ALONE, seconds=10.0)
    for plan in list(plan_world(options))[-3:]:
        made = make_track(options, material, plan)
        assert 8.4 < made.seconds < 11.6 and loudness(made.audio[""], RATE) > 0.01
        for row in made.occurrences:
            assert row.original_end <= 5.0 and -6 <= row.level_db <= 0
    assert {clip.path.stem[0] for clip in material.originals["test"]} == {"5"}
