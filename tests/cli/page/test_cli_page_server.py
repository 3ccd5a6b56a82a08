"""What the page's server gives away and what it refuses."""

import json
import re
import secrets
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tome_audio[demo]'")


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def post(url, body, content_type="application/json"):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def upload(served, name, content):
    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + b"\r\n--edge--\r\n"
    return post(f"{served.url}/gradio_api/upload", body, "multipart/form-data; boundary=edge")


def test_the_page_names_no_other_machine(served):
    status, headers, body = get(served.url, **{"Accept-Encoding": "gzip, br"})
    assert status == 200 and b"gradio" in body
    assert not re.findall(rb"<(?:script|link|img|iframe)[^>]+https?://[^>]*>", body)
    policy = {key.lower(): value for key, value in headers.items()}["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy


def test_the_page_does_not_say_where_files_lie(served, checkpoint, sounds):
    body = get(served.url)[2].decode() + get(f"{served.url}/config")[2].decode()
    assert checkpoint.name in body
    assert str(checkpoint.parent) not in body and str(sounds) not in body


@pytest.mark.parametrize("path", ["/etc/hostname", "{checkpoint}", "{sounds}/beeps.flac", "{root}/setup.py"])
@pytest.mark.parametrize("route", ["/gradio_api/file={}", "/file={}", "/gradio_api/file/{}", "/static{}", "/assets{}"])
def test_files_of_the_machine_are_not_served(served, checkpoint, sounds, pytestconfig, path, route):
    path = path.format(checkpoint=checkpoint, sounds=sounds, root=pytestconfig.rootpath)
    assert get(served.url + route.format(path))[0] in (403, 404)


def ask(served, path):
    """Ask the page about a file, as its own script does, and return the status and what it said."""
    events = json.loads(get(f"{served.url}/config")[2])["dependencies"]
    event = next(event["id"] for event in events if len(event["inputs"]) == 2)
    session = secrets.token_hex(8)
    body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, 2.0]}
    body |= {"fn_index": event, "session_hash": session}
    status, said = post(f"{served.url}/gradio_api/queue/join", json.dumps(body).encode())
    if status == 200:
        said = get(f"{served.url}/gradio_api/queue/data?session_hash={session}")[2]
    return status, said.decode()


@pytest.mark.parametrize(
    "path",
    ["/etc/hostname", "{sounds}/beeps.flac", "{temporary}/../sounds0/beeps.flac", "http://127.0.0.1:9/a.wav", 5, ["a"]],
)
def test_files_that_were_not_uploaded_are_not_heard(served, sounds, path):
    if isinstance(path, str):
        path = path.format(sounds=sounds, temporary=served.temporary)
    status, said = ask(served, path)
    assert status == 403 and "only files that were uploaded" in said and "beeps" not in said


def test_an_upload_is_heard(served, sounds):
    stored = json.loads(upload(served, "beeps.flac", (sounds / "beeps.flac").read_bytes())[1])[0]
    status, said = ask(served, stored)
    assert status == 200 and "fewer MACs, 34" in said


def test_without_the_guard_gradio_still_refuses_files_of_the_machine(sounds, tmp_path, monkeypatch):
    """Its own check, which it leaves out for a mounted page unless told otherwise."""
    import gradio as gr
    from starlette.testclient import TestClient

    from tome_audio.cli.page import server

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with gr.Blocks(analytics_enabled=False) as page:
        sound, said = gr.Audio(type="filepath"), gr.Textbox()
        sound.change(lambda path: f"got {path}", sound, said)
    monkeypatch.setattr(server.Guard, "allows", lambda *_: True)
    app = server.make_app(page, folder=tmp_path, max_megabytes=1, hosts=["*"])
    body = {"data": [{"path": str(sounds / "beeps.flac"), "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}
    with TestClient(app) as client:
        answer = client.post("/gradio_api/run/predict", json=body)
    assert answer.status_code == 500 and "got" not in answer.text


def test_other_names_of_this_machine_are_refused(served):
    assert get(served.url, Host="localhost")[0] == 200
    assert get(served.url, Host="somebody.example")[0] == 400


def test_long_questions_are_refused(served):
    status, said = post(f"{served.url}/gradio_api/queue/join", b" " * (2**20 + 1))
    assert status == 413 and b"too long" in said


def test_uploads_are_kept_while_the_page_runs_and_large_ones_are_refused(served, sounds):
    status, body = upload(served, "../../beeps.flac", (sounds / "beeps.flac").read_bytes())
    stored = json.loads(body)[0]
    assert status == 200 and stored.startswith(str(served.temporary)) and ".." not in stored
    status, _ = upload(served, "huge.wav", (sounds / "huge.wav").read_bytes())
    assert status == 413
