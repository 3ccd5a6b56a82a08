"""Where the real pretrained model is, and how many threads the tests take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Run on one thread: on busy cores, threads that wait for one another take five times the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kwt_folder() -> Path:
    root = Path(__file__).parents[2]
    data = Path(os.environ.get("TOME_AUDIO_DATA", root.parent / "shared" / "data"))
    folder = data / "weights" / "kwt1_speechcommands_v2_12"
    if not folder.is_dir():
        pytest.skip(f"no pretrained KWT-1 in {folder}; set TOME_AUDIO_DATA to the folder that holds the real data")
    return folder
