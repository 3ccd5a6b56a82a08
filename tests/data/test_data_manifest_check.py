from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest
from clip_files import write_bad_clips, write_clip

from tome_audio.audio import AudioError
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.manifest_check import check_manifest


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> tuple[Manifest, dict[str, Path]]:
    """Two good clips between all the bad ones."""
    folder = tmp_path_factory.mktemp("clips")
    paths = write_bad_clips(folder / "bad")
    entries = [
        Entry("good/1", write_clip(folder / "1.wav", 0.5), ("a",)),
        *(Entry(name, path, ("a",)) for name, path in paths.items()),
        Entry("unknown", write_clip(folder / "unknown.wav"), ("a", "zebra")),
        Entry("bare", write_clip(folder / "bare.flac"), ()),
        Entry("good/2", write_clip(folder / "2.flac", 0.25, 8000), ("b",)),
    ]
    return Manifest(tuple(entries), ("a", "b")), paths


def test_every_kind_is_found_by_name(bad):
    check = check_manifest(bad[0])
    kinds = {problem.entry.id: problem.kind for problem in check.problems}
    assert kinds.pop("truncated.flac") in ("truncated", "damaged")  # as libsndfile puts it
    assert kinds == {
        "missing.wav": "missing", "truncated.wav": "truncated", "nothing.wav": "empty", "empty.wav": "empty",
        "nan.wav": "not finite", "text.wav": "damaged", "short.wav": "too short", "unknown": "unknown label",
        "bare": "no label",
    }  # fmt: skip
    for problem in check.problems:
        assert problem.entry.id in problem.message and "\n" not in problem.message


def test_the_rest_can_be_used_with_measured_durations(bad):
    check = check_manifest(bad[0])
    assert [(e.id, e.duration) for e in check.usable.entries] == [("good/1", 0.5), ("good/2", 0.25)]
    assert check.usable.labels == ("a", "b")
    assert (check.n_checked, check.n_skipped) == (12, 10)


def test_the_text_counts_and_names_as_many_as_wanted(bad):
    check = check_manifest(bad[0])
    lines = check.text().splitlines()
    assert lines[0].startswith("12 clips checked: 2 usable, 10 not (") and "2 empty" in lines[0]
    assert len(lines) == 11 and any("zebra" in line for line in lines)
    assert check.text(limit=3).splitlines()[-1] == "  and 7 more" and len(check.text(3).splitlines()) == 5


def test_one_clip_can_have_two_problems_and_is_skipped_once(tmp_path):
    check = check_manifest(Manifest((Entry("x", tmp_path / "x.wav", ("b",)),), ("a",)))
    assert check.counts == {"missing": 1, "unknown label": 1}
    assert check.n_skipped == 1


def test_a_name_longer_than_the_file_system_allows_is_a_problem(tmp_path):
    entries = (Entry("long", tmp_path / f"{'x' * 300}.wav", ("a",)), Entry("x", write_clip(tmp_path / "x.wav"), ("a",)))
    check = check_manifest(Manifest(entries, ("a",)))
    assert [problem.entry.id for problem in check.problems] == ["long"] and len(check.usable) == 1
    assert "x.wav: " in check.problems[0].message


def test_nothing_wrong(tmp_path):
    manifest = Manifest((Entry("x", write_clip(tmp_path / "x.wav"), ("a",)),), ("a",))
    check = check_manifest(manifest)
    assert check.text() == "1 clips checked: 1 usable, 0 not" and not check.problems and check.counts == {}
    assert check_manifest(manifest, min_seconds=0.6).counts == {"too short": 1}


def test_threads_change_nothing_and_progress_counts_up(bad):
    seen = []
    check = check_manifest(bad[0], n_threads=3, on_progress=lambda done, total: seen.append((done, total)))
    assert check == check_manifest(bad[0])
    assert seen == [(i, 12) for i in range(1, 13)]


def test_the_report_as_csv_is_whole(bad, tmp_path):
    check = check_manifest(bad[0])
    check.write_csv(tmp_path / "new" / "report.csv")
    with (tmp_path / "new" / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["kind"]) for row in rows] == [(p.entry.id, p.kind) for p in check.problems]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.csv"]


def test_the_kind_of_an_audio_error_survives_pickling():
    error = pickle.loads(pickle.dumps(AudioError("x.wav", "no such file", "missing")))
    assert (error.path, error.problem, error.kind) == ("x.wav", "no such file", "missing")
    assert AudioError("x.wav", "odd").kind == "damaged"


def test_real_clips_and_one_cut_in_half(real_data, tmp_path):
    source = next(iter(sorted((real_data / "esc50" / "audio").glob("*.flac"))))
    cut = tmp_path / "cut.flac"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    check = check_manifest(Manifest((Entry("whole", source, ("a",)), Entry("cut", cut, ("a",))), ("a",)))
    assert [(e.id, e.duration) for e in check.usable.entries] == [("whole", 5.0)]
    assert "cut.flac" in check.problems[0].message
