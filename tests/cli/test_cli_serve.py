"""The command: what it refuses before it opens a page. The page itself: tests/cli/page."""

import socket
import sys

import pytest


def test_without_a_model_it_says_what_to_do(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("serve")
    assert code == 2 and out == "" and "run `tome-audio demo` first, or give --model PATH" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", 70000), "--port must be 0 to 65535"),
        (("--port", -1), "--port must be 0 to 65535"),
        (("--max-seconds", 0), "--max_seconds must be more than 0"),
        (("--max-megabytes", -1), "--max_megabytes must be more than 0"),
        (("--examples", "/nowhere"), "--examples /nowhere is not a folder"),
    ],
)
def test_bad_options(checkpoint, run, options, message):
    code, out, err = run("serve", "--model", checkpoint, *options)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_without_gradio_it_says_what_to_install(checkpoint, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, out, err = run("serve", "--model", checkpoint, "--port", 0)
    assert code == 2 and out == "" and "pip install 'tome_audio[demo]'" in err and err.count("\n") == 1


def test_a_port_that_is_taken_is_named(checkpoint, run):
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("serve", "--model", checkpoint, "--port", port)
    assert code == 2 and out == "" and f"cannot listen on 127.0.0.1 port {port}" in err and "another --port" in err


def test_a_model_that_cannot_answer_is_refused(run):
    pytest.importorskip("gradio")
    code, out, err = run("serve", "--model", "vit_tiny_patch16_224", "--port", 0)
    assert code == 2 and out == "" and "cannot classify audio" in err
