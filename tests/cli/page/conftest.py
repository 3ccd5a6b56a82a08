"""The page, served by the command itself in another process."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tome_audio.data.corpora.sound_events import make_sound_event

MAX_SECONDS, MAX_MEGABYTES = 5, 1


@dataclass(frozen=True)
class Served:
    """A running page: its address, its process, and where it keeps what was uploaded."""

    url: str
    process: subprocess.Popen
    temporary: Path


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """Two example clips, sounds to upload, and what is none."""
    folder = tmp_path_factory.mktemp("sounds")
    for name in ("bell", "siren"):
        (folder / "examples" / name).mkdir(parents=True)
        clip = make_sound_event(name, np.random.default_rng(0))
        soundfile.write(folder / "examples" / name / "0.wav", clip, 16000)
    soundfile.write(folder / "beeps.flac", make_sound_event("beeps", np.random.default_rng(1)), 16000)
    soundfile.write(folder / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "long.ogg", np.zeros(16000 * (MAX_SECONDS + 2)), 16000)
    soundfile.write(folder / "huge.wav", np.zeros(MAX_MEGABYTES * 2**19 + 1000), 16000)
    (folder / "text.wav").write_text("this is not audio\n")
    (folder / "empty.wav").touch()
    (folder / "cut.wav").write_bytes((folder / "silence.wav").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="session")
def served(checkpoint, sounds, tmp_path_factory):
    """`tome-audio serve` on a free port; it must end when told to, and leave nothing."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tome_audio[demo]'")
    temporary = tmp_path_factory.mktemp("temporary")
    command = [
        sys.executable, "-m", "tome_audio.cli.main", "serve", "--model", str(checkpoint), "--port", "0",
        "--examples", str(sounds / "examples"), "--max-seconds", str(MAX_SECONDS),
        "--max-megabytes", str(MAX_MEGABYTES),
    ]  # fmt: skip
    log = temporary.parent / f"{temporary.name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": str(temporary)},
        )  # fmt: skip
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, log.read_text()
            yield Served(found[0], process, temporary)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
    assert code == 0 and list(temporary.iterdir()) == [] and log.read_text() == ""
