"""Which questions the guard lets through."""

import json

import pytest

pytest.importorskip("starlette", reason="the page needs gradio: pip install 'tome_audio[demo]'")
from tome_audio.cli.page.guard import Guard


@pytest.fixture
def guard(tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "link.wav").symlink_to(tmp_path / "outside.wav")
    return Guard(None, tmp_path / "uploads")


def test_files_in_the_folder_are_allowed(guard, tmp_path):
    inside = str(tmp_path / "uploads" / "a" / "clip.wav")
    for question in ({"data": [{"path": inside}, 2.0]}, {"data": [None, 2.0]}, {"path": None}, [1, "x"], 5):
        assert guard.allows(json.dumps(question).encode())
    assert guard.allows(b"")


@pytest.mark.parametrize(
    "path",
    [
        "{folder}/outside.wav", "{folder}/uploads/../outside.wav", "{folder}/uploads/link.wav",
        "{folder}/uploadsx/a.wav", "clip.wav", "", "http://example.org/{folder}/uploads/a.wav", "file://{folder}/uploads/a.wav",
    ],
)  # fmt: skip
def test_files_elsewhere_are_not(guard, tmp_path, path):
    path = path.format(folder=tmp_path)
    for question in ({"data": [{"path": path}]}, [{"a": {"b": [{"c": 1, "path": path}]}}]):
        assert not guard.allows(json.dumps(question).encode())
        assert not guard.allows(json.dumps(question).encode("utf-16"))


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe\xff", b"[" * 100_000, b'{"path": 5}', b'{"path": ["/etc/hostname"]}']
)
def test_what_cannot_be_understood_is_refused(guard, body):
    assert not guard.allows(body)
