"""What the page's server lets through: questions about uploads alone, and pages that ask no other machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UPLOAD = "/gradio_api/upload"
_MOST_BYTES = 2**20  # of a question, which names a file and holds none
# The browser may load nothing from another machine, whatever a version of gradio asks for.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "frame-ancestors 'self'; form-action 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Stands before an application: refuses to hear files that do not lie in `folder`, and adds headers to answers.

    A question to gradio names its file by path, and one that names an address makes the server fetch it. The page's own
    questions name uploads and examples only, which lie in one folder.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app = app
        self.folder = folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["method"] in ("GET", "HEAD", "OPTIONS") or scope["path"] == _UPLOAD:
            await self.app(scope, receive, send_with_headers)
            return
        body = await _read(receive)
        if body is None:
            refusal = JSONResponse({"detail": "this question is too long"}, 413)
            await refusal(scope, receive, send_with_headers)
        elif not self.allows(body):
            refusal = JSONResponse({"detail": "only files that were uploaded to this page are heard"}, 403)
            await refusal(scope, receive, send_with_headers)
        else:
            await self.app(scope, _again(body, receive), send_with_headers)

    def allows(self, body: bytes) -> bool:
        """Whether a question, in JSON, names no file but those in the folder; an empty one names none."""
        try:
            return not body or self._lies_inside(json.loads(body))
        except (ValueError, RecursionError):
            return False

    def _lies_inside(self, value: Any) -> bool:
        if isinstance(value, list):
            return all(map(self._lies_inside, value))
        if not isinstance(value, dict):
            return True
        path = value.get("path")
        if path is not None and not (isinstance(path, str) and Path(path).resolve().is_relative_to(self.folder)):
            return False
        return all(map(self._lies_inside, value.values()))


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request, None if it is too long."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MOST_BYTES:
            return None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then what `receive` gives."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give
