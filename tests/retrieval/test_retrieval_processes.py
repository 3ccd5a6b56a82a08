"""What only a process of its own shows: memory, and a kill that nothing can catch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from melodies import RATE, MelodyEmbedder, melody, save

from tome_audio.retrieval import SampleIndex

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), *sys.path])}


def start(code, *arguments):
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


MEASURE = """
import resource, sys
import torch
from melodies import MelodyEmbedder
from tome_audio.retrieval import embed_reference
torch.set_num_threads(1)
for path in sys.argv[1:]:
    found = embed_reference(path, MelodyEmbedder())
    print(len(found.starts), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_file(tmp_path):
    minute = melody(1, 60.0)
    short = save(tmp_path / "short.wav", np.tile(minute, 4))
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as file:
        for _ in range(40):
            file.write(minute)
    out, _ = start(MEASURE, short, tmp_path / "long.wav").communicate(timeout=300)
    (n_short, before), (n_long, after) = (map(int, line.split()) for line in out.splitlines())
    assert (n_short, n_long) == (239, 2399)
    waveform = 40 * 60 * RATE * 4 / 1024  # KiB that the waveform alone would take
    assert after - before < 0.3 * waveform


SLOW = """
import sys, time
from pathlib import Path
from melodies import MelodyEmbedder
from tome_audio.retrieval import SampleIndex
class Slow(MelodyEmbedder):
    def embed(self, windows):
        time.sleep(0.2)
        return super().embed(windows)
index = SampleIndex.create(sys.argv[1], Slow())
index.add({Path(path).stem: Path(path) for path in sys.argv[2:]}, Slow(), batch_size=4)
"""


def test_a_process_that_is_killed_resumes_and_equals_an_uninterrupted_one(tmp_path):
    files = {f"{n}": save(tmp_path / f"{n}.flac", melody(n, 20.0)) for n in range(6)}
    process = start(SLOW, tmp_path / "killed", *files.values())
    tracks = tmp_path / "killed" / "tracks"
    deadline = time.monotonic() + 120
    while len(list(tracks.glob("*/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    n_done = len(SampleIndex.open(tmp_path / "killed").tracks)
    assert 2 <= n_done < 6
    for folder in ("killed", "whole"):
        found = SampleIndex.create(tmp_path / folder, MelodyEmbedder()).add(files, MelodyEmbedder(), batch_size=4)
        assert len(found.known) == (n_done if folder == "killed" else 0) and not found.problems
    contents = [
        {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("killed", "whole")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 7
