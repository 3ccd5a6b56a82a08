"""Worlds: the truth in the tables is in the audio, parts share nothing, and a killed run ends as another would."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import read_sample_table
from tome_audio.songs.flips import Flip, FlipOptions, flipped
from tome_audio.songs.material import GeneratedMaterial
from tome_audio.songs.world_folder import write_world
from tome_audio.songs.worlds import PartCounts, Plan, WorldOptions, make_track, plan_world

pytest.importorskip("python_stretch")

RATE = 16000
MATERIAL = GeneratedMaterial()
PARTS = {
    "train": PartCounts(n_material=2),
    "valid": PartCounts(n_songs=1, n_without=1, n_originals=1, n_distractors=1),
    "test": PartCounts(n_songs=3, n_without=2, n_originals=2, n_distractors=2),
}
OPTIONS = WorldOptions(seed=4, parts=PARTS, seconds=10.0, material_seconds=5.0, flip=FlipOptions(seconds=(2.0, 4.0)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder, write_world(OPTIONS, MATERIAL, folder)


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def correlated(song, piece):
    """Places where a piece could begin, and its normalised correlation with the song there."""
    size = 1 << (len(song) + len(piece)).bit_length()
    product = np.fft.irfft(np.fft.rfft(song, size) * np.conj(np.fft.rfft(piece, size)), size)[
        : len(song) - len(piece) + 1
    ]
    power = np.cumsum(np.concatenate([[0], song.astype(np.float64) ** 2]))
    norms = np.sqrt((power[len(piece) :] - power[: -len(piece)]).clip(1e-9))
    return product / norms / np.sqrt((piece.astype(np.float64) ** 2).sum())


# plans


def test_every_track_has_its_place_and_every_original_its_songs():
    parts = {"test": PartCounts(n_songs=6, n_without=2, n_originals=4, n_distractors=3)}
    plans = list(plan_world(WorldOptions(parts=parts)))
    assert len({plan.id for plan in plans}) == len(plans) == 15
    songs = [plan for plan in plans if plan.kind == "song"]
    assert [len(plan.originals) for plan in songs] == [1] * 6 + [0] * 2
    assert {plan.originals[0] for plan in songs[:4]} == set(range(4))


def test_shared_originals_are_sampled_by_songs_of_all_parts_alike():
    parts = {name: PartCounts(n_songs=count, n_originals=7) for name, count in (("train", 9), ("test", 3))}
    plans = list(plan_world(WorldOptions(parts=parts, shared_originals=3)))
    assert [plan.id for plan in plans if plan.kind == "original"] == [f"shared-original-{n:04}" for n in range(3)]
    for part, times in (("train", 3), ("test", 1)):
        sampled = [plan.originals[0] for plan in plans if plan.kind == "song" and plan.part == part]
        assert sorted(sampled) == sorted(list(range(3)) * times)


def test_some_songs_sample_two_originals():
    parts = {"test": PartCounts(n_songs=40, n_originals=5)}
    plans = [plan for plan in plan_world(WorldOptions(parts=parts, second_sample=0.5)) if plan.kind == "song"]
    assert 10 < sum(len(plan.originals) == 2 for plan in plans) < 30
    assert all(len(set(plan.originals)) == len(plan.originals) for plan in plans)
    made = make_track(
        WorldOptions(seed=1, parts=parts, seconds=12.0), MATERIAL, Plan("test-song-0000", "test", "song", 0, (0, 3))
    )
    ids = [occurrence.original for occurrence in made.occurrences]
    assert set(ids) == {"test-original-0000", "test-original-0003"} and ids == sorted(ids)
    ends = [occurrence.song_end for occurrence in made.occurrences]
    starts = [occurrence.song_start for occurrence in made.occurrences]
    assert all(end <= start + 1e-3 for end, start in zip(ends, starts[1:], strict=False))


# the truth


def test_the_table_finds_the_sample_in_the_audio_on_disk(world):
    folder, _ = world
    table = read_sample_table(folder)
    songs = [song for song in table.songs("test") if table.originals_of(song.id)]
    assert len(songs) == 3
    for song in songs:
        heard, _ = soundfile.read(song.path, dtype="float32")
        first = table.occurrences_of(song.id)[0]
        original, _ = soundfile.read(table.tracks[first.original].path, dtype="float32")
        numbers = (first.original_start, first.original_end, first.semitones, first.tempo_ratio)
        piece = flipped(original, Flip(*numbers, level_db=0.0, equaliser=None), RATE)
        assert len(piece) / RATE == pytest.approx(first.song_end - first.song_start, abs=0.01)
        found = correlated(heard, piece)
        starts = np.array([row.song_start for row in table.occurrences_of(song.id)]) * RATE
        assert np.abs(starts - found.argmax()).min() < 0.005 * RATE and found.max() > 0.3


def test_overlaid_alone_the_sample_is_found_to_the_sample():
    flip = FlipOptions((2, 4), (0, 0), (1, 1), (-6, 0), equaliser_db=0, loops=1, throughout=0)
    options = WorldOptions(seed=2, parts={"test": PartCounts(3, 0, 3)}, flip=flip, seconds=10.0)
    for plan in plan_world(options):
        if plan.kind != "song":
            continue
        made = make_track(options, MATERIAL, plan)
        (only,) = made.occurrences
        original = make_track(options, MATERIAL, Plan(only.original, "test", "original", plan.originals[0])).audio[""]
        piece = original[round(only.original_start * RATE) : round(only.original_end * RATE)]
        found = correlated(made.audio[""], piece)
        assert found.argmax() == pytest.approx(only.song_start * RATE, abs=2) and found.max() > 0.3
        assert (only.semitones, only.tempo_ratio, only.kind) == (0, 1, "single") and -6 <= only.level_db <= 0


def test_rows_lie_within_their_tracks(world):
    _, table = world
    assert {o.song for o in table.occurrences} == {"valid-song-0000", *(f"test-song-{n:04}" for n in range(3))}
    for o in table.occurrences:
        assert 0 <= o.song_start < o.song_end <= table.tracks[o.song].seconds + 1e-3
        assert 0 <= o.original_start < o.original_end <= table.tracks[o.original].seconds + 1e-3
        assert -6 <= o.semitones <= 6 and 0.7 <= o.tempo_ratio <= 1.5 and -3 <= o.level_db <= 6
        played = (o.original_end - o.original_start) / o.tempo_ratio
        assert played == pytest.approx(o.song_end - o.song_start, abs=1e-3)
        assert table.tracks[o.song].part == table.tracks[o.original].part


# what lies in the folder


def test_the_folder_holds_what_the_table_says(world):
    folder, table = world
    assert read_sample_table(folder) == table
    assert [len(table.songs("test")), len(table.references("test"))] == [5, 4]
    assert [len(table.songs("valid")), len(table.references("valid"))] == [2, 2] and not table.songs("train")
    for track in table.tracks.values():
        info = soundfile.info(track.path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (RATE, 1, "PCM_16", "FLAC")
        assert info.duration == pytest.approx(track.seconds, abs=1e-3) and 8.4 < track.seconds < 11.6
    stems = sorted((folder / "stems" / "train" / "train-material-0001").iterdir())
    assert 4 <= len(stems) <= 6 and all(soundfile.info(stem).frames == 5 * RATE for stem in stems)
    assert json.loads((folder / "world.json").read_text())["flip"]["seconds"] == [2.0, 4.0]


def test_nothing_but_the_sample_gives_a_song_away(world):
    _, table = world
    tracks = {track.id: soundfile.read(track.path, dtype="float32")[0] for track in table.tracks.values()}
    assert len({len(samples) for samples in tracks.values()}) > len(tracks) - 3
    peaks = [float(np.abs(samples).max()) for samples in tracks.values()]
    assert max(peaks) < 0.9 and np.std(peaks) > 0.05
    assert all(np.abs(samples[: RATE // 2]).max() > 1e-3 for samples in tracks.values())


def test_tracks_of_different_parts_kinds_and_numbers_share_no_music():
    options = WorldOptions(seed=4, parts=PARTS, seconds=10.0)
    plans = [("valid", "original", 0), ("test", "original", 0), ("test", "original", 1), ("test", "distractor", 0)]
    made = [make_track(options, MATERIAL, Plan("x", part, kind, number)) for part, kind, number in plans]
    assert len({track.facts["title"] for track in made}) == 4
    other = make_track(WorldOptions(seed=5, parts=PARTS, seconds=10.0), MATERIAL, Plan("x", *plans[0]))
    assert other.facts["title"] != made[0].facts["title"]


def test_some_songs_without_a_listed_sample_sample_something_else():
    parts = {"test": PartCounts(n_without=1)}
    plan = next(plan_world(WorldOptions(parts=parts)))
    for share in (0.0, 1.0):
        made = make_track(WorldOptions(parts=parts, seconds=6.0, unlisted=share), MATERIAL, plan)
        assert made.occurrences == () and made.facts["samples_something_unlisted"] == bool(share)


# stopped, gone on with, made by several processes


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_goes_on_and_ends_as_another_would(world, tmp_path):
    folder, _ = world

    def stop(done, total):
        if done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        write_world(OPTIONS, MATERIAL, tmp_path, on_progress=stop)
    assert not (tmp_path / "tracks.csv").exists()
    journal = tmp_path / "made.jsonl"
    journal.write_text(journal.read_text() + '{"id": "test-original-00')  # killed while it wrote
    (tmp_path / "audio" / "test").mkdir(parents=True, exist_ok=True)
    (tmp_path / "audio" / "test" / ".test-song-0000.x.part.flac").write_bytes(b"half")
    kept = sorted(tmp_path.glob("audio/*/*.flac"))
    before = {path: path.stat().st_mtime_ns for path in kept if not path.name.startswith(".")}
    first = next(iter(before))
    first.unlink()
    seen = []
    write_world(OPTIONS, MATERIAL, tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (6, 15) and seen[-1] == (15, 15)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != first)
    assert everything(tmp_path) == everything(folder)


def test_two_processes_write_the_same_bytes(world, tmp_path):
    folder, _ = world
    for name in ("audio/valid", "stems"):
        shutil.copytree(folder / name, tmp_path / name)
    write_world(OPTIONS, MATERIAL, tmp_path, n_processes=2)
    assert everything(tmp_path) == everything(folder)


def test_a_folder_of_another_world_is_refused(world, tmp_path):
    folder, _ = world
    with pytest.raises(DataError, match=r"made otherwise \(seed changed\)"):
        write_world(WorldOptions(**{**vars(OPTIONS), "seed": 5}), MATERIAL, folder)
    (tmp_path / "tracks.csv").write_text("track_id, artist, title, year, genre\n")
    with pytest.raises(DataError, match=r"holds tracks\.csv of other tracks"):
        write_world(OPTIONS, MATERIAL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.csv"]
    with pytest.raises(ValueError, match="n_processes must be at least 1"):
        write_world(OPTIONS, MATERIAL, tmp_path, n_processes=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed and shared_originals must be 0 or more"),
        ({"seconds": 1.0}, "seconds must be between 4 and 1800"),
        ({"unlisted": 2.0}, "unlisted must be between 0 and 1"),
        ({"parts": {"test": PartCounts(n_songs=1)}}, "part test has songs and nothing to sample"),
        ({"parts": {"rehearsal": PartCounts()}}, "part 'rehearsal' is not one of"),
    ],
)
def test_options_that_make_no_world_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        WorldOptions(**options)


def test_counts_below_none_are_refused():
    with pytest.raises(ValueError, match="n_songs must be 0 or more"):
        PartCounts(n_songs=-1)
