from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tome_audio.data.clips import DataError
from tome_audio.data.manifest import Entry, Manifest, sorted_labels
from tome_audio.data.manifest_files import (
    read_ast_json,
    read_label_csv,
    read_manifest_csv,
    write_ast_json,
    write_label_csv,
    write_manifest_csv,
)

LABELS = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n2,/m/q,"A ""q"""\n'


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path):
    return put(tmp_path / "labels.csv", LABELS)


# label CSV


def test_label_names_keep_commas_and_quotes(labels):
    found = read_label_csv(labels)
    assert found.labels == ("/m/09x0r", "/m/05zppz", "/m/q")
    assert found.names == ("Speech", "Male speech, man speaking", 'A "q"')


def test_label_csv_comes_back_as_written(labels, tmp_path):
    manifest = Manifest((), *read_label_csv(labels))
    write_label_csv(manifest, tmp_path / "again.csv")
    assert read_label_csv(tmp_path / "again.csv") == read_label_csv(labels)
    assert (tmp_path / "again.csv").read_text().startswith("index,mid,display_name\n0,/m/09x0r,Speech\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,mid\n0,/m/1\n", "has no column display_name"),
        ("index,mid,display_name\n1,/m/1,a\n", "must count 0, 1, 2"),
        ("index,mid,display_name\n", "must count 0, 1, 2"),
        ("index,mid,display_name\n0,/m/1,Male speech, man\n", "line 2: more values than columns: quote values"),
        ('index,mid,display_name\n0,/m/1,"open\n', "not readable as CSV"),
    ],
)
def test_a_bad_label_csv_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_label_csv(put(tmp_path / "labels.csv", text))


# AST's JSON


def ast_json(*items: dict, head: str = "") -> str:
    return head + json.dumps({"data": list(items)})


@pytest.mark.parametrize("head", ["", " # a comment\n", '# one\n\n#two, with "quotes"\n'])
def test_ast_json_with_and_without_a_comment(labels, tmp_path, head):
    text = ast_json({"wav": "a/x.flac", "labels": "/m/09x0r,/m/q"}, {"wav": "/b/y.wav", "labels": "/m/q"}, head=head)
    manifest = read_ast_json(put(tmp_path / "data.json", text), labels, split="train")
    first, second = manifest.entries
    assert (first.id, first.path, first.labels, first.split) == (
        "a/x", tmp_path / "a/x.flac", ("/m/09x0r", "/m/q"), "train",
    )  # fmt: skip
    assert (second.id, second.path) == ("/b/y", Path("/b/y.wav"))
    assert manifest.targets().tolist() == [[1, 0, 1], [0, 0, 1]]


def test_root_places_relative_paths_and_old_root_moves_absolute_ones(labels, tmp_path):
    items = [{"wav": w, "labels": "/m/q"} for w in ("a/x.wav", "/old/place/b/y.wav", "/elsewhere/z.wav")]
    path = put(tmp_path / "data.json", ast_json(*items))
    manifest = read_ast_json(path, labels, root="/new", old_root="/old/place")
    assert [str(e.path) for e in manifest.entries] == ["/new/a/x.wav", "/new/b/y.wav", "/elsewhere/z.wav"]
    assert [e.id for e in manifest.entries] == ["a/x", "b/y", "/elsewhere/z"]


def test_video_ids_are_ids(labels, tmp_path):
    path = put(tmp_path / "d.json", ast_json({"video_id": "--4g", "wav": "/a/--4g_0.000.flac", "labels": "/m/q"}))
    assert read_ast_json(path, labels).entries[0].id == "--4g"


def test_ast_json_comes_back_as_written(labels, tmp_path):
    entries = (Entry("1", tmp_path / "1.wav", ("/m/q", "/m/09x0r")), Entry("ü", tmp_path / "ü.wav", ("/m/q",)))
    manifest = Manifest(entries, *read_label_csv(labels))
    write_ast_json(manifest, tmp_path / "out.json")
    assert read_ast_json(tmp_path / "out.json", labels) == manifest
    assert set(json.loads((tmp_path / "out.json").read_text("utf-8"))["data"][0]) == {"video_id", "wav", "labels"}


def test_a_label_with_a_comma_does_not_fit_asts_json_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="'a,b' holds a comma"):
        write_ast_json(Manifest((Entry("1", Path("1.wav"), ("a,b",)),), ("a,b",)), tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# only a comment\n", "is not JSON after 1 lines of comment"),
        ("[1]", "is not an AST datafile"),
        ('{"data": [1]}', "is not an AST datafile"),
        (ast_json({"wav": "x.wav"}), "item 1 needs wav and labels"),
        (ast_json({"wav": "", "labels": "/m/q"}), "item 1 needs wav and labels"),
        (ast_json({"wav": "x.wav", "labels": ""}, {"wav": "x.flac", "labels": ""}), "clip id 'x' is listed twice"),
    ],
)
def test_a_bad_ast_json_is_named(labels, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_ast_json(put(tmp_path / "data.json", text), labels)


def test_a_missing_file_is_named(labels, tmp_path):
    with pytest.raises(DataError, match=r"gone\.json cannot be read .*No such file"):
        read_ast_json(tmp_path / "gone.json", labels)


# our CSV

TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3, unique=True)), max_size=4, unique_by=lambda row: row[0]))
def test_any_label_comes_back_from_our_csv(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    entries = tuple(Entry(name, folder / f"{i}.wav", tuple(own)) for i, (name, own) in enumerate(rows))
    manifest = Manifest(entries, sorted_labels(entries))
    write_manifest_csv(manifest, folder / "clips.csv")
    assert read_manifest_csv(folder / "clips.csv") == manifest


@pytest.mark.parametrize("label", ["two\nlines", "\n", "a\r", "a\r\nb", '\ra, "b"\n', " spaced ", "a\tb", "\u2028", ""])
def test_labels_with_line_breaks_come_back(tmp_path, label):
    entries = (
        Entry("1\n2", tmp_path / "1.wav", (label, "plain"), speaker="a\rb"),
        Entry("3", tmp_path / "3.wav", (label,)),
    )
    manifest = Manifest(entries, sorted_labels(entries))
    write_manifest_csv(manifest, tmp_path / "clips.csv")
    write_label_csv(manifest, tmp_path / "labels.csv")
    assert read_manifest_csv(tmp_path / "clips.csv", label_csv=tmp_path / "labels.csv") == manifest


def test_all_that_is_known_comes_back_and_paths_are_relative(tmp_path):
    (tmp_path / "audio").mkdir()
    entries = (
        Entry("1", tmp_path / "audio/1.wav", ('a, "b"', "c"), "train", 3, "ann", "src", 1.2345678901234567),
        Entry("2", Path("/elsewhere/2.wav"), ("c",), "valid"),
    )
    manifest = Manifest(entries, ('a, "b"', "c"))
    write_manifest_csv(manifest, tmp_path / "clips.csv")
    assert read_manifest_csv(tmp_path / "clips.csv") == manifest
    with (tmp_path / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["audio/1.wav", "/elsewhere/2.wav"]
    assert rows[0]["labels"] == '"a, ""b""",c' and rows[1]["speaker"] == ""


def test_path_and_labels_are_enough_and_labels_csv_gives_the_order(labels, tmp_path):
    path = put(tmp_path / "clips.csv", '\ufefflabels,path,split\n/m/q,x.wav,validation\n"/m/09x0r,/m/q",y.wav,\n')
    manifest = read_manifest_csv(path, label_csv=labels, root="/root")
    assert [(e.id, str(e.path), e.split) for e in manifest.entries] == [
        ("x", "/root/x.wav", "valid"), ("y", "/root/y.wav", None),
    ]  # fmt: skip
    assert manifest.targets().tolist() == [[0, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx.wav,a\n", "has no column labels"),
        ("path,labels,split\nx.wav,a,dev7\n", "line 2: split 'dev7' is not one of"),
        ("path,labels,fold\nx.wav,a,one\n", "line 2: fold must be a whole number"),
        ("path,labels,duration\nx.wav,a,nan\n", "line 2: duration nan is not a length"),
        ("path,labels\n,a\n", "line 2: there is no path"),
        ("path,labels\nx.wav,a\nx.flac,a\n", "clip id 'x' is listed twice"),
        ("path,labels\nx.wav,a,b\n", "line 2: more values than columns"),
    ],
)
def test_a_bad_csv_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_manifest_csv(put(tmp_path / "clips.csv", text))


# real files


def test_the_real_label_files(real_data):
    folder = real_data / "labels"
    sizes = {"audioset": 527, "esc": 50, "speechcommands": 35}
    for name, size in sizes.items():
        assert len(read_label_csv(folder / f"{name}_class_labels_indices.csv").labels) == size
    assert read_label_csv(folder / "audioset_class_labels_indices.csv").names[1] == "Male speech, man speaking"


@pytest.mark.parametrize("part", ["train", "eval"])
def test_the_real_sample_datafiles(real_data, part):
    folder = real_data / "labels"
    manifest = read_ast_json(
        folder / f"audioset_sample_{part}_data.json",
        folder / "audioset_class_labels_indices.csv",
        root="/clips",
        old_root="/data/sls/audioset/data/audio/eval",
    )
    first = manifest.entries[0]
    assert (first.id, str(first.path)) == ("--4gqARaEJE", "/clips/_/_/--4gqARaEJE_0.000.flac")
    assert first.labels == ("/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk")
    assert manifest.targets().sum(1).tolist() == [len(e.labels) for e in manifest.entries]
