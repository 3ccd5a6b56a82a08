"""A web server on this machine that sends parts of files, breaks off, and changes its mind, as told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` (name to bytes).

    Attributes:
        breaks: For each coming answer, after how many bytes of it the connection is closed.
        ranges: Whether parts are sent when asked for.
        tags: Whether files have an ETag.
        sizes: Whether the length is told beforehand.
        requests: The Range header of every request so far, None where it had none.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.breaks: list[int] = []
        self.ranges = True
        self.tags = True
        self.sizes = True
        self.requests: list[str | None] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        content = self.files.get(handler.path.lstrip("/"))
        if content is None:
            handler.send_error(404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and handler.headers.get("If-Range") != tag:
            start = 0
        if start >= len(content) > 0:
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.sizes:
            handler.send_header("Content-Length", str(len(content) - start))
        if self.tags:
            handler.send_header("ETag", tag)
        handler.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(content)
        handler.wfile.write(content[start:end])


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Run a server until the block ends."""
    files_ = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files_.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files_.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield files_
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
