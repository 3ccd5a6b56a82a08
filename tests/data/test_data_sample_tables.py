from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import (
    Occurrence,
    SampleTable,
    Track,
    read_sample_table,
    with_audio,
    write_sample_table,
)

SAMPLES = (
    "sample_id, original_track_id,sample_track_id, t_original,t_sample,n_repetitions,sample_type,interpolation,comments"
    "\rS001,T002,T001,5,0,19,riff,no, loud, then soft, then gone\rS002,T002,T003,53,135,1,beat,maybe,\xd0 not counted\r"
)
TRACKS = (
    'track_id, artist, title, year, genre\r\rT001, Björk, One, Two, 1994, Hip-hop\r\rT002, B, "A, B", 1968, Jazz\r'
    "\rT003, C, Rhymin & Stealin', 1986, Hip-hop\r\rT004, D, Nobody samples this, 1970, Rock\r"
)


def sample100(folder: Path, samples: str = SAMPLES, tracks: str = TRACKS) -> Path:
    (folder / "samples.csv").write_bytes(samples.encode("latin-1"))
    (folder / "tracks.csv").write_bytes(tracks.encode("latin-1"))
    return folder


def ours() -> SampleTable:
    tracks = [
        Track("a", Path("audio/test/a.flac"), "test", "song", 30.25, "Some, body", 'A "title"', "1999", "Jazz"),
        Track("b", None, "test", "original"),
        Track("c", None, "valid", "distractor"),
        Track("d", None, None, "distractor"),
        Track("e", None, "test", "song"),
    ]
    occurrences = (
        Occurrence("a", "b", 1.5, 4.0, 0.25, 2.0, -3.25, 0.75, 2.5, "loop", "one, two"),
        Occurrence("a", "b", 4.0, 6.5, 0.25, 2.0, -3.25, 0.75, 2.5, "loop"),
    )
    return SampleTable({track.id: track for track in tracks}, occurrences)


# Sample100 as distributed


def test_sample100_is_read_with_the_old_record_as_the_original(tmp_path):
    table = read_sample_table(sample100(tmp_path))
    first, second = table.occurrences
    assert (first.song, first.original) == ("T001", "T002")
    assert (first.song_start, first.original_start, first.repetitions) == (0.0, 5.0, 19)
    assert (second.song, second.song_start, second.original_start) == ("T003", 135.0, 53.0)
    assert first.kind == "riff" and second.interpolation == "maybe"
    assert first.song_end is None and first.semitones is None


def test_commas_line_ends_spaces_and_letters_of_sample100_survive(tmp_path):
    table = read_sample_table(sample100(tmp_path))
    assert table.occurrences[0].comments == "loud, then soft, then gone"
    assert table.occurrences[1].comments == "\xd0 not counted"
    assert list(table.tracks) == ["T001", "T002", "T003", "T004"]
    one = table.tracks["T001"]
    assert (one.artist, one.title, one.year, one.genre) == ("Björk", "One, Two", "1994", "Hip-hop")
    assert table.tracks["T002"].title == "A, B"


def test_roles_of_sample100_follow_from_its_samples(tmp_path):
    table = read_sample_table(sample100(tmp_path))
    assert [track.role for track in table.tracks.values()] == ["song", "original", "song", "distractor"]
    assert [track.id for track in table.songs("test")] == ["T001", "T003"]
    assert [track.id for track in table.references()] == ["T002", "T004"]


def test_a_song_that_is_sampled_itself_is_a_reference_too(tmp_path):
    more = SAMPLES + "S003,T001,T003,1,2,3,riff,no,\r"
    table = read_sample_table(sample100(tmp_path, more))
    assert table.tracks["T001"].role == "song"
    assert [track.id for track in table.references()] == ["T001", "T002", "T004"]
    assert table.originals_of("T003") == ("T002", "T001")


def test_the_real_sample100_has_what_its_paper_says(real_data):
    table = read_sample_table(real_data / "sample100")
    assert len(table.occurrences) == 106 and len(table.tracks) == 144
    assert len(table.songs()) == 75 and len({o.original for o in table.occurrences}) == 68
    assert len({(o.song, o.original) for o in table.occurrences}) == 90
    assert sum(len(table.originals_of(song.id)) > 1 for song in table.songs()) == 11
    first = table.occurrences[0]
    assert table.tracks[first.song].artist == "OC" and table.tracks[first.original].year == "1968"
    assert "sample ABCD looped" in first.comments
    assert not any(track.title is None or track.genre is None for track in table.tracks.values())


# ours


def test_ours_is_read_as_it_was_written(tmp_path):
    table = ours()
    placed = {**table.tracks} | {
        "a": Track(
            "a", tmp_path / "audio/test/a.flac", "test", "song", 30.25, "Some, body", 'A "title"', "1999", "Jazz"
        )
    }
    write_sample_table(SampleTable(placed, table.occurrences), tmp_path)
    assert "audio/test/a.flac" in (tmp_path / "tracks.csv").read_text()
    assert str(tmp_path) not in (tmp_path / "tracks.csv").read_text()
    assert read_sample_table(tmp_path) == SampleTable(placed, table.occurrences)


def test_tracks_are_chosen_by_part_and_role():
    table = ours()
    assert [track.id for track in table.songs("test")] == ["a", "e"] and table.songs("valid") == ()
    assert [track.id for track in table.references("test")] == ["b", "d"]
    assert [track.id for track in table.references("valid")] == ["c", "d"]
    assert table.originals_of("a") == ("b",) and len(table.occurrences_of("a")) == 2
    assert table.originals_of("e") == ()
    assert table.summary() == "2 distractors, 1 original, 2 songs; 1 pairs of song and original"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tracks.csv", "number,path\n1,a.wav\n", "no column id (ours) or track_id (Sample100)"),
        (
            "tracks.csv",
            "id,part\na,rehearsal\n",
            "tracks.csv, line 2: part 'rehearsal' is not one of train, valid, test",
        ),
        ("tracks.csv", "id,role\na,remix\n", "line 2: role 'remix' is not one of song, original, distractor"),
        ("tracks.csv", "id,role\na,song\na,song\n", "'a' is listed twice"),
        ("tracks.csv", "id,role\n,song\n", "a track has no id"),
        ("tracks.csv", "id,seconds\na,long\n", "line 2: seconds must be a number, got 'long'"),
        ("tracks.csv", "id,role\na,song,more\n", "line 2: 3 values for 2 columns"),
        ("tracks.csv", "\n", "tracks.csv is empty"),
        ("occurrences.csv", "song,original\na,b\n", "has no column song_start"),
        (
            "occurrences.csv",
            "song,original,song_start,original_start\na,b,x,0\n",
            "song_start must be a number, got 'x'",
        ),
        (
            "occurrences.csv",
            "song,original,song_start,original_start\na,b,,0\n",
            "song_start must be a time in seconds",
        ),
        ("occurrences.csv", "song,original,song_start,original_start\na,b,-1,0\n", "must be a time in seconds, got -1"),
        ("occurrences.csv", "song,original,song_start,original_start\na,b,nan,0\n", "must be a number, got 'nan'"),
        (
            "occurrences.csv",
            "song,original,song_start,song_end,original_start\na,b,3,3,0\n",
            "song_end must come after song_start",
        ),
        (
            "occurrences.csv",
            "song,original,song_start,original_start\na,z,1,0\n",
            "the original 'z', which is not among",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, name, text, said):
    write_sample_table(ours(), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_sample_table(tmp_path)
    assert said in str(error.value)


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(DataError, match=r"tracks\.csv cannot be read"):
        read_sample_table(tmp_path)


# audio


def test_audio_is_found_by_track_id_and_missing_tracks_are_told(tmp_path):
    table = read_sample_table(sample100(tmp_path))
    audio = tmp_path / "audio"
    (audio / "old").mkdir(parents=True)
    silence = np.zeros(800)
    soundfile.write(audio / "T001.flac", silence, 8000)
    soundfile.write(audio / "old" / "T002.ogg", silence, 8000)
    soundfile.write(audio / "T999.wav", silence, 8000)
    (audio / "T003.txt").write_text("no audio")
    found, missing = with_audio(table, audio)
    assert missing == ["T003", "T004"]
    assert found.tracks["T001"].path == audio / "T001.flac" and found.tracks["T002"].path == audio / "old" / "T002.ogg"
    assert found.tracks["T003"].path is None and found.occurrences == table.occurrences


def test_two_files_for_a_track_and_no_folder_are_errors(tmp_path):
    table = read_sample_table(sample100(tmp_path))
    for name in ("T001.flac", "T001.wav"):
        soundfile.write(tmp_path / name, np.zeros(800), 8000)
    with pytest.raises(DataError, match="both named after track T001"):
        with_audio(table, tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        with_audio(table, tmp_path / "nowhere")
