"""The pretrained Keyword Transformer, read from an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tome_audio.models.kwt import KWT
from tome_audio.models.strict import CheckpointError, load_strict

_NPZ_PREFIXES = (
    ("frontend.dft_a.weight", "frontend.dft_a"), ("frontend.dft_b.weight", "frontend.dft_b"),
    ("frontend.mel.weight", "frontend.mel"), ("frontend.dct.weight", "frontend.dct"),
    ("cls", "cls_token"), ("pos", "pos_embed"),
)  # fmt: skip
_NPZ_PARTS = {"q": "attn", "k": "attn", "v": "attn", "proj": "attn", "fc1": "mlp", "fc2": "mlp"}
_NPZ_CONSTANTS = ("attn_scale_const", "ln_eps")


def _module_key(key: str) -> str:
    """Turn the name of an array in the npz into the name of the weight in the module."""
    parts = key.split(".")
    if parts[0] == "blocks" and len(parts) == 4 and parts[2] in _NPZ_PARTS:
        parts.insert(2, _NPZ_PARTS[parts[2]])
    return dict(_NPZ_PREFIXES).get(key, ".".join(parts))


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}
    except FileNotFoundError:
        raise CheckpointError(f"KWT checkpoint {path} does not exist; give the path of its .npz file") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"KWT checkpoint {path} can not be read as .npz ({error}); it is damaged, copy it again"
        ) from error


def _sizes(arrays: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    width = arrays["cls"].shape[-1]
    return {
        "width": width,
        "depth": len({key.split(".")[1] for key in arrays if key.startswith("blocks.")}),
        "n_heads": round(width * float(arrays["attn_scale_const"]) ** 2),  # scale = head_dim ** -0.5
        "mlp_width": arrays["blocks.0.fc1.weight"].shape[0],
        "n_frames": arrays["pos"].shape[1] - 1,
        "n_coefficients": arrays["patch.weight"].shape[1],
        "n_classes": arrays["head.weight"].shape[0],
        "norm_eps": float(arrays["ln_eps"]),
    }


def load_kwt(path: str | Path) -> KWT:
    """Read a pretrained Keyword Transformer from an .npz file with `labels.txt` beside it, in eval mode.

    Raises:
        CheckpointError: A file is missing or damaged, or its arrays are not those of a KWT.
    """
    path = Path(path)
    arrays = _read_npz(path)
    try:
        sizes = _sizes(arrays)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{path} is not a KWT checkpoint: {error} is missing or misshapen") from error
    labels_path = path.with_name("labels.txt")
    if not labels_path.is_file():
        raise CheckpointError(f"{labels_path} is missing: put the class names there, one per line, in output order")
    labels = [line.strip() for line in labels_path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(labels) != sizes["n_classes"]:
        raise CheckpointError(f"{labels_path} has {len(labels)} labels, {path.name} has {sizes['n_classes']} classes")
    model = KWT(**sizes, labels=labels)
    weights = {_module_key(key): value for key, value in arrays.items() if key not in _NPZ_CONSTANTS}
    load_strict(model, weights, str(path), "Use the .npz as it was published.")
    return model.eval()
