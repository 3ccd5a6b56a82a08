"""Shared by all tests: where the real data is, and a seeded start."""

import os
from pathlib import Path

import pytest
import torch

# No test asks a hub: loading is tested on folders.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real audio; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TOME_AUDIO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real audio at {folder}: set TOME_AUDIO_DATA")
    return folder
