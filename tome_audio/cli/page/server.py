"""Serves the page on this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tome_audio.cli.page.guard import Guard
from tome_audio.cli.page.layout import CSS, FONT, MONO


def make_app(page: gr.Blocks, *, folder: Path, max_megabytes: float, hosts: Sequence[str]) -> FastAPI:
    """Return the web application that serves a page.

    Args:
        page: the page.
        folder: where gradio keeps uploads.
        max_megabytes: the largest upload.
        hosts: the names under which browsers may ask for the page; "*" is any.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, folder=folder)
    # A page of somebody else's that had its own name point to this machine could ask in the name of a visitor.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app = gr.mount_gradio_app(
        app, page, path="/", max_file_size=round(max_megabytes * 2**20), allowed_paths=[], show_error=False,
        footer_links=[], run_history=False, enable_monitoring=False, mcp_server=False, pwa=False, ssr_mode=False,
        theme=gr.themes.Default(font=FONT, font_mono=MONO), css=CSS,
    )  # fmt: skip
    # A mounted page counts as not launched, and gradio then leaves out its own checks of paths.
    page.has_launched = page.is_running = True
    return app


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be listened on.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): give another --port (0 takes a free "
            "one) or --host"
        ) from error


def run(app: FastAPI, listening: socket.socket) -> None:
    """Serve until interrupted or told to end."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):  # the way to end a page
        uvicorn.Server(config).run(sockets=[listening])
