from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from file_server import serving

from tome_audio.data.download import DownloadError, download, file_sha256, unpack

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"set.zip": CONTENT}) as running:
        yield running


def fetch(server, folder: Path, **settings):
    return download(server.url + "set.zip", folder / "set.zip", pause=0.01, timeout=5, **settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_and_checked_and_nothing_else_is_left(server, tmp_path):
    seen = []
    done = fetch(server, tmp_path / "new", sha256=SHA256, on_progress=lambda n, total: seen.append((n, total)))
    assert done.path.read_bytes() == CONTENT and done.check == "sha256 as published"
    assert names(tmp_path / "new") == ["set.zip"]
    assert seen[-1] == (3_000_000, 3_000_000) and seen == sorted(seen)


def test_without_a_checksum_the_size_is_checked_and_that_is_said(server, tmp_path):
    assert fetch(server, tmp_path).check == "upstream publishes no checksum: size checked"
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    assert fetch(server, tmp_path, sha256=SHA256).check == "already there, sha256 as published"
    assert fetch(server, tmp_path).check == "already there, not checked"
    assert len(server.requests) == 1


def test_a_transfer_that_breaks_off_goes_on_by_itself(server, tmp_path):
    server.breaks = [1_200_000, 700_000]
    assert fetch(server, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1200000-", "bytes=1900000-"]
    assert names(tmp_path) == ["set.zip"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.breaks = [1_200_000]
    with pytest.raises(DownloadError, match=r"after 1200000 of 3000000 bytes.*run this again to go on"):
        fetch(server, tmp_path, sha256=SHA256, attempts=1)
    assert names(tmp_path) == ["set.zip.part", "set.zip.part.json"]
    fetch(server, tmp_path, sha256=SHA256)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1200000-"]


def test_a_file_that_changed_in_between_is_fetched_from_its_start(server, tmp_path):
    server.breaks = [1_200_000]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, attempts=1)
    server.files["set.zip"] = CONTENT[::-1]
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("step", ["unlink", "open", "replace"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_a_run_killed_between_two_files_takes_no_old_part_for_the_new_one(
    server, tmp_path, monkeypatch, step, after, number
):
    server.breaks = [1_200_000]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, attempts=1)
    server.files["set.zip"] = CONTENT[::-1]
    left = [number]
    real = getattr(Path, step)

    def killed(self, *args, **kwargs):
        found = None if not after and not left[0] else real(self, *args, **kwargs)
        left[0] -= 1
        if left[0] == -1:
            if found is not None and step == "open":
                found.close()
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, killed)
        with suppress(KeyboardInterrupt):
            fetch(server, tmp_path)
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("lacks", ["ranges", "tags"])
def test_a_server_that_cannot_go_on_sends_all_of_it_again(server, tmp_path, lacks):
    setattr(server, lacks, False)
    server.breaks = [1_200_000]
    assert fetch(server, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT


def test_a_server_that_tells_no_size(server, tmp_path):
    server.sizes = False
    assert fetch(server, tmp_path).check == "upstream publishes no checksum: not checked"
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_part_that_no_server_knows_about_is_not_trusted(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path).path.read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_part_longer_than_the_file_is_fetched_anew(server, tmp_path):
    server.breaks = [1_200_000]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, attempts=1)
    (tmp_path / "set.zip.part").write_bytes(CONTENT + b"x")
    assert fetch(server, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_what_came_and_says_what_to_do(server, tmp_path):
    for _ in range(2):  # the second call finds all of it there
        with pytest.raises(DownloadError, match=r"kept as .*set\.zip\.part; delete it and try again"):
            fetch(server, tmp_path, sha256="0" * 64)
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT and not (tmp_path / "set.zip").exists()
    assert len(server.requests) == 1
    (tmp_path / "set.zip.part").unlink()
    fetch(server, tmp_path, sha256=SHA256)
    assert len(server.requests) == 2


def test_a_users_file_of_another_content_is_left_as_it_is(server, tmp_path):
    (tmp_path / "set.zip").write_text("mine")
    with pytest.raises(DownloadError, match="left as it is; move it away"):
        fetch(server, tmp_path, sha256=SHA256)
    assert (tmp_path / "set.zip").read_text() == "mine" and not server.requests


def test_a_refusal_is_not_tried_again(server, tmp_path):
    with pytest.raises(DownloadError, match=r"gone\.zip: the server refuses it \(.*404.*\); check the address"):
        download(server.url + "gone.zip", tmp_path / "gone.zip", pause=0.01)
    assert len(server.requests) == 1 and names(tmp_path) == []


def test_nobody_answers(tmp_path):
    with serving({}) as stopped:
        url = stopped.url
    with pytest.raises(DownloadError, match=r"failed 2 times .*run this again"):
        download(url + "x", tmp_path / "x", attempts=2, pause=0.01)


# unpacking


def make_zip(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def make_tar(path: Path, name: str = "yes/1.wav") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 2
        archive.addfile(member, io.BytesIO(b"hi"))
    return path


def test_a_folder_inside_a_zip_becomes_the_folder(tmp_path):
    archive = make_zip(tmp_path / "a.zip", top__audio__1="one", beside="two")
    assert unpack(archive, tmp_path / "set", inside="top") == tmp_path / "set"
    assert (tmp_path / "set/audio/1").read_text() == "one" and names(tmp_path) == ["a.zip", "set"]


def test_a_tar_is_unpacked_and_a_folder_that_is_there_is_left_alone(tmp_path):
    unpack(make_tar(tmp_path / "a.tar.gz"), tmp_path / "set")
    (tmp_path / "set/yes/1.wav").write_text("mine")
    unpack(tmp_path / "a.tar.gz", tmp_path / "set")
    assert (tmp_path / "set/yes/1.wav").read_text() == "mine"


@pytest.mark.parametrize("damage", ["half", "text", "no folder", "outside zip", "outside tar"])
def test_what_cannot_be_unpacked_leaves_no_folder(tmp_path, damage):
    archive, inside = make_tar(tmp_path / "a.tar.gz"), None
    if damage == "half":
        archive.write_bytes(archive.read_bytes()[:60])
    elif damage == "text":
        archive.write_text("not an archive")
    elif damage == "no folder":
        inside = "other"
    elif damage == "outside zip":
        archive = make_zip(tmp_path / "a.zip", **{"..__out": "x"})
    else:
        archive = make_tar(archive, "../out")
    before = names(tmp_path)
    with pytest.raises(DownloadError, match=archive.name):
        unpack(archive, tmp_path / "set", inside)
    assert names(tmp_path) == before and not (tmp_path.parent / "out").exists()


@pytest.mark.parametrize("damage", ["checksum", "stream"])
def test_damage_inside_a_gzip_is_a_damaged_archive(tmp_path, damage):
    archive, raw = tmp_path / "a.tar.gz", io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as members:
        member = tarfile.TarInfo("noise")
        member.size = 500_000
        members.addfile(member, io.BytesIO(CONTENT[: member.size]))
    first, rest = (bytearray(gzip.compress(half)) for half in (raw.getvalue()[:400_000], raw.getvalue()[400_000:]))
    at = slice(-8, -4) if damage == "checksum" else slice(200_000, 300_000)
    first[at] = bytes(byte ^ 0xFF for byte in first[at])
    archive.write_bytes(first + rest)
    with pytest.raises(DownloadError, match=r"a\.tar\.gz cannot be unpacked \(.*\): delete it and fetch it again"):
        unpack(archive, tmp_path / "set")
    assert names(tmp_path) == ["a.tar.gz"]


def test_file_sha256(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    assert file_sha256(tmp_path / "x") == SHA256
