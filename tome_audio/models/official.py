"""Official AST checkpoints (`audioset_10_10_0.4593.pth` and its kin), loaded strictly."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from tome_audio.models.ast import AST, VARIANTS
from tome_audio.models.strict import CheckpointError, load_strict

_DEAD_HEADS = {f"v.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}
_PUBLISHED_FRAMES = (1024, 512, 128)  # AudioSet, ESC-50, Speech Commands
_ENCODERS = {size[:2]: name for name, size in VARIANTS.items()}  # base384 is listed last, so it wins for 768
_STRIDES_IN_NAME = re.compile(r"_(\d+)_(\d+)_\d\.\d+")


def strides_from_name(name: str) -> tuple[int, int] | None:
    """Read (fstride, tstride) from an official file name such as `audioset_10_10_0.4593.pth`, if it has them."""
    found = _STRIDES_IN_NAME.search(name)
    return (int(found[1]), int(found[2])) if found else None


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"AST checkpoint {path} does not exist; give the path of its .pth file") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"AST checkpoint {path} is no plain state dict: it is damaged, or holds code that loading would run. "
            "Copy it again, or save the model's state_dict() alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"AST checkpoint {path} can not be read ({error}); copy it again") from error


def clean_keys(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Strip DataParallel's `module.` prefix and the two dead ImageNet heads from an official state dict.

    Raises:
        CheckpointError: The object is no mapping from names to tensors.
    """
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise CheckpointError("an official AST checkpoint is a state dict: names and tensors, and not empty")
    wrong = [str(key) for key, value in state_dict.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise CheckpointError(
            f"an official AST checkpoint holds tensors only, but {', '.join(wrong[:6])} are none; "
            "pass the state dict inside it"
        )
    prefixed = all(key.startswith("module.") for key in state_dict)
    cleaned = {key[len("module.") :] if prefixed else key: value for key, value in state_dict.items()}
    return {key: value for key, value in cleaned.items() if key not in _DEAD_HEADS}


def _pick_frames(t_dim: int, patch_t: int, tstride: int) -> int:
    for n_frames in _PUBLISHED_FRAMES:
        if n_frames >= patch_t and (n_frames - patch_t) // tstride + 1 == t_dim:
            return n_frames
    first = patch_t + (t_dim - 1) * tstride
    raise CheckpointError(
        f"the weights have {t_dim} patches in time, which fits {first} to {first + tstride - 1} frames at "
        f"tstride {tstride}; pass n_frames"
    )


def _build(weights: Mapping[str, torch.Tensor], strides: tuple[int, int], n_frames: int | None, n_mels: int) -> AST:
    """Build the AST, on the meta device, that has the sizes the weights tell and the strides they do not."""
    n_patches, width = weights["v.pos_embed"].shape[1] - 2, weights["v.pos_embed"].shape[2]
    depth = len({key.split(".")[2] for key in weights if key.startswith("v.blocks.")})
    if (width, depth) not in _ENCODERS:
        raise CheckpointError(
            f"the weights have width {width} and depth {depth}, which is no published AST; their number of "
            "heads can not be read from them, so build the AST yourself and pass it as model"
        )
    patch = tuple(weights["v.patch_embed.proj.weight"].shape[2:])
    f_dim = (n_mels - patch[0]) // strides[0] + 1
    if n_frames is None and f_dim > 0 and n_patches % f_dim == 0:
        n_frames = _pick_frames(n_patches // f_dim, patch[1], strides[1])
    t_dim = 0 if n_frames is None else (n_frames - patch[1]) // strides[1] + 1
    if n_frames is None or f_dim * t_dim != n_patches:
        length = "any number of" if n_frames is None else str(n_frames)
        raise CheckpointError(
            f"the weights have {n_patches} patches, but strides {strides[0]}/{strides[1]} with {n_mels} mel bins "
            f"and {length} frames do not give that number; pass the fstride, tstride, n_mels and n_frames "
            "that the weights were trained with"
        )
    with torch.device("meta"):
        return AST(
            _ENCODERS[width, depth],
            n_classes=weights["mlp_head.1.weight"].shape[0],
            fstride=strides[0],
            tstride=strides[1],
            n_mels=n_mels,
            n_frames=n_frames,
            patch=patch,
        )


def _strides(source: str, fstride: int | None, tstride: int | None) -> tuple[int, int]:
    named = strides_from_name(source) or (None, None)
    strides = (fstride or named[0], tstride or named[1])
    if strides[0] is None or strides[1] is None:
        raise CheckpointError(f"the strides can not be read from the weights of {source}; pass fstride and tstride")
    return strides[0], strides[1]


def load_official(
    checkpoint: str | Path | Mapping[str, torch.Tensor],
    model: AST | None = None,
    *,
    fstride: int | None = None,
    tstride: int | None = None,
    n_frames: int | None = None,
    n_mels: int = 128,
) -> AST:
    """Load an official AST checkpoint, every weight of it, and return the model.

    Only the dead ImageNet heads (`v.head`, `v.head_dist`) may be left out. Files are read as tensors only, so
    no code in them runs. Size and classes come from the weights. The weights do not hold the strides: they
    come from the arguments or from an official file name, and are checked against the number of patches.

    Args:
        checkpoint: Path of a `.pth` file, or its state dict, with or without `module.` before each key.
        model: AST to fill in place; without it one is built, in eval mode.
        fstride: Step between patches in mel bins.
        tstride: Step between patches in frames.
        n_frames: Frames of the input; default the published 1024, 512 or 128 that fits.
        n_mels: Mel bins of the input.

    Returns:
        The given model, or a new one.

    Raises:
        CheckpointError: The file can not be read, a key is missing or unexpected, or a shape differs.
    """
    if isinstance(checkpoint, Mapping):
        source, weights = "the state dict", clean_keys(checkpoint)
    else:
        source, weights = str(checkpoint), clean_keys(_read(Path(checkpoint)))
    advice = "Check the model's size, strides, frames and classes against the checkpoint's."
    if model is not None:
        load_strict(model, weights, source, advice)
        return model
    needed = ("v.pos_embed", "v.patch_embed.proj.weight", "mlp_head.1.weight")
    absent = [key for key in needed if key not in weights]
    if absent:
        raise CheckpointError(f"{source} is no official AST checkpoint: missing keys: {', '.join(absent)}")
    model = _build(weights, _strides(Path(source).name, fstride, tstride), n_frames, n_mels)
    weights = {key: value.detach().clone() for key, value in weights.items()}
    load_strict(model, weights, source, advice, assign=True)
    return model.eval()
