"""Features kept on disk, so that a clip is decoded and transformed once and not in every epoch."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tome_audio.data.whole_file import whole_file


class FeatureCache:
    """One file per clip below `folder`, found by the clip's path, size, time of change and the settings.

    Another file, a changed file or other settings give another key, so nothing stale is read; what is no longer
    needed stays until the folder is deleted. Entries carry a checksum, and a damaged one is computed anew. Several
    processes may use one folder. Waveform mixup works on samples, so mixed clips must not go through a cache.

    Args:
        folder: Made if need be.
        settings: All that the features depend on besides the file: front end, its settings, sample rate. Values
            that JSON can hold.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self._settings = json.dumps(dict(settings), sort_keys=True)

    def get(self, path: str | Path, compute: Callable[[], Tensor]) -> Tensor:
        """The features of a clip, from the cache if it has them, otherwise from `compute` and then kept.

        Args:
            path: Of the audio file.
            compute: Makes the features; its result goes to the CPU, bfloat16 as float32.

        Raises:
            FileNotFoundError: There is no such audio file.
            OSError: The cache cannot be written.
        """
        file = self.place(path)
        features = _load(file)
        if features is None:
            features = compute().detach().cpu()
            if features.dtype == torch.bfloat16:  # which NumPy does not know; float32 holds it exactly
                features = features.float()
            with whole_file(file) as partial:
                # npz and not npy: its members carry a checksum.
                np.savez(partial, features=features.numpy())
        return features

    def place(self, path: str | Path) -> Path:
        """Where the features of an audio file are kept, by its present size and time of change.

        Raises:
            FileNotFoundError: There is no such audio file.
        """
        audio = Path(path).resolve()
        status = audio.stat()
        text = json.dumps([str(audio), status.st_size, status.st_mtime_ns, self._settings])
        key = hashlib.sha256(text.encode()).hexdigest()
        # Two million files in one folder would be slow to list.
        return self.folder / key[:2] / f"{key}.npz"


def _load(file: Path) -> Tensor | None:
    try:
        with zipfile.ZipFile(file) as members, members.open("features.npy") as member:
            return torch.from_numpy(np.lib.format.read_array(member, allow_pickle=False))
    except Exception:  # absent, or damaged: what is raised then varies with the damage
        return None
