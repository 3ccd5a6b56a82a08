"""Shared by all tests: where the real data is, and a seeded start."""

import os

import pytest
import torch
from real_audio import DATA

# No test asks a hub: loading is tested on folders.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real audio; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real audio at {DATA}: set TOME_AUDIO_DATA")
    return DATA
