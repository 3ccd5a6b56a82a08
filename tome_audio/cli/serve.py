"""`tome-audio serve`: a page in the browser that hears clips with and without merging."""

from __future__ import annotations

import ipaddress
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from tome_audio.cli.loading import load_model
from tome_audio.cli.output import console, warn
from tome_audio.cli.page.examples import copy_examples, find_examples
from tome_audio.cli.page.hear import MAX_SECONDS, make_pair

_DEMO_MODEL = Path("runs", "demo", "model.safetensors")
_MAX_MEGABYTES = 25.0


def serve(
    model: str | None = None,
    examples: str | None = None,
    labels: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_seconds: float = MAX_SECONDS,
    max_megabytes: float = _MAX_MEGABYTES,
) -> int:
    """Open a page on this machine that hears clips with and without merging.

    Needs the extra `demo` (gradio). The page asks no other machine for anything; uploads are deleted when it ends.

    Args:
        model: kwt1.npz, a checkpoint (.safetensors, .pth), or a Hugging Face AST; none takes the one `tome-audio demo`
            has trained in runs/demo.
        examples: Folder of audio files to offer; none takes the folder `examples` beside the model, if there is one.
        labels: Label CSV (index,mid,display_name) for weights that hold no names, such as official AST files.
        host: Address to listen on. Others than this machine's own let everybody in who reaches it.
        port: Port to listen on; 0 takes a free one.
        max_seconds: Longer clips are refused.
        max_megabytes: Larger files are refused.
    """
    _check_options(port, max_seconds, max_megabytes)
    name = _find_model(model)
    beside = Path(name).parent / "examples"
    found = find_examples(examples) if examples is not None else {}
    if examples is None and Path(name).is_file() and beside.is_dir():
        with suppress(ValueError):  # a folder of that name without audio in it
            found = find_examples(beside)
    with _ended_like_interrupted(), tempfile.TemporaryDirectory(prefix="tome-audio-page-") as folder:
        # gradio reads these while it is imported.
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        _need_gradio()
        from tome_audio.cli.page import layout, server

        with server.open_socket(host, port) as listening:
            pair = make_pair(load_model(name, labels))
            clips, errors = copy_examples(found, Path(folder, "examples"), max_seconds)
            for error in errors:
                warn(f"warning: example left out: {error}")
            page = layout.build_page(pair, clips, max_seconds=max_seconds)
            _announce(host, listening.getsockname()[1])
            # Of an IPv6 address the server compares what stands before the first colon, a bracket; no name has one.
            hosts = ("127.0.0.1", "localhost", "[" if ":" in host else host) if _is_loopback(host) else ("*",)
            app = server.make_app(page, folder=Path(folder), max_megabytes=max_megabytes, hosts=hosts)
            server.run(app, listening)
    return 0


def _check_options(port: int, max_seconds: float, max_megabytes: float) -> None:
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be 0 to 65535, got {port}")
    for name, value in (("max_seconds", max_seconds), ("max_megabytes", max_megabytes)):
        if not 0 < value < math.inf:
            raise ValueError(f"--{name} must be more than 0, got {value}")


def _need_gradio() -> None:
    try:
        import_module("gradio")
    except ImportError as error:
        raise ImportError(f"the page needs gradio ({error}): pip install 'tome_audio[demo]'") from error


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl+C does while the context is open, so that temporary folders are cleared away."""
    before: Any = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _find_model(model: str | None) -> str:
    """Return the name of the model to load.

    Raises:
        ValueError: if none was given and the demo has not been run here.
    """
    if model is not None:
        return model
    if not _DEMO_MODEL.is_file():
        raise ValueError(f"there is no {_DEMO_MODEL} here: run `tome-audio demo` first, or give --model PATH")
    return str(_DEMO_MODEL)


def _announce(host: str, port: int) -> None:
    if not _is_loopback(host):
        warn(f"warning: everybody who reaches {host} can use this page; the default --host 127.0.0.1 is this machine")
    address = f"[{host}]" if ":" in host else host
    console().out(f"http://{address}:{port} (stop with Ctrl+C)")
    sys.stdout.flush()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
