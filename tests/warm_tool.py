"""`tome-audio` without its seconds of imports: one process that has them, and forks for every call.

A recipe calls the command seven times. The shell script on PATH hands words, folder and output over to this process.
"""

from __future__ import annotations

import array
import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_SHIM = """#!{python} -SE
import array, os, socket, sys
calls = socket.socket(socket.AF_UNIX)
calls.connect({address!r})
words = chr(0).join([os.getcwd(), *sys.argv[1:]]).encode()
streams = array.array("i", [1, 2])
calls.sendmsg([len(words).to_bytes(4, "big") + words], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
sys.exit(calls.recv(1)[0])
"""


def start(folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Write `tome-audio` into a folder, and start the process that answers it."""
    tool, address = folder / "tome-audio", folder / "calls"
    tool.write_text(_SHIM.format(python=sys.executable, address=str(address)))
    tool.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(address)], env=env)
    deadline = time.monotonic() + 120
    while not address.exists():
        assert server.poll() is None and time.monotonic() < deadline, "the process that should answer did not start"
        time.sleep(0.02)
    return server


def _serve(address: Path) -> None:
    for name in ("tome_audio.cli.main", "accelerate", "torchmetrics.functional.classification", "timm", "matplotlib"):
        importlib.import_module(name)
    from tome_audio.cli.main import _commands

    _commands()
    calls = socket.socket(socket.AF_UNIX)
    partial = address.with_suffix(".part")
    calls.bind(str(partial))
    calls.listen()
    partial.rename(address)  # there only once it answers
    while True:
        call, _ = calls.accept()
        if os.fork() == 0:
            _answer(call)
        call.close()
        os.wait()


def _answer(call: socket.socket) -> None:
    from tome_audio.cli.main import main

    streams = array.array("i")
    data, ancillary, *_ = call.recvmsg(65536, socket.CMSG_LEN(2 * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    while len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += call.recv(65536)
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
    folder, *words = data[4:].decode().split("\0")
    os.chdir(folder)
    try:
        code = main(words)
    except SystemExit as left:
        code = int(left.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    call.sendall(bytes([code]))
    os._exit(0)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
