"""The folder of a run: checkpoints and weights, each written whole or not at all, the newest few kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

_UNFINISHED = ".part-"
_STATE = "state.pt"


class RunFolder:
    """A folder with `checkpoints/epoch-E-step-S/` (E epochs done, S steps taken) and `NAME.safetensors`.

    A checkpoint is a folder of weights (safetensors) and `state.pt`, written under a hidden name and renamed once it is
    on the disk: a run killed at any moment leaves the checkpoints before as they were.

    Args:
        path: The folder; made with the first thing written.
        keep: Checkpoints that stay; older ones are removed after a new one has been written.

    Raises:
        ValueError: `keep` is below 1.
    """

    def __init__(self, path: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, got keep={keep}")
        self.path, self.keep = Path(path), keep
        self.checkpoints = self.path / "checkpoints"

    def save(self, epoch: int, step: int, weights: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]) -> Path:
        """Write a checkpoint and remove those that are too old; where there is one of this place, it stays.

        Args:
            epoch: Epochs done.
            step: Steps taken.
            weights: Weights by file name, such as "model".
            state: What `torch.load(weights_only=True)` can read.
        """
        self._remove_unfinished()
        target = self.checkpoints / f"epoch-{epoch:04d}-step-{step:09d}"
        if target.exists():  # replacing it would leave a moment without it
            return target
        partial = self.checkpoints / f"{_UNFINISHED}{os.getpid()}-{target.name}"
        partial.mkdir(parents=True)
        for name, tensors in weights.items():
            _write_weights(partial / f"{name}.safetensors", tensors)
        torch.save(state, partial / _STATE)
        _to_disk(partial / _STATE)
        partial.rename(target)
        _to_disk(self.checkpoints)
        for old in self.found()[: -self.keep]:
            self._remove(old)
        return target

    def found(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("epoch-*-step-*"))

    def write_weights(self, name: str, weights: Mapping[str, Tensor]) -> Path:
        """Write `name`.safetensors into the folder, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{name}.safetensors"
        partial = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
        try:
            _write_weights(partial, weights)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _remove(self, checkpoint: Path) -> None:
        # Renamed first: what is half removed must not look like a checkpoint.
        hidden = checkpoint.with_name(f"{_UNFINISHED}{os.getpid()}-old-{checkpoint.name}")
        checkpoint.rename(hidden)
        shutil.rmtree(hidden)

    def _remove_unfinished(self) -> None:
        for left in self.checkpoints.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.path.glob(f"{_UNFINISHED}*"):
            left.unlink()


def check_facts(facts: Mapping[str, Any]) -> None:
    """Refuse facts that a checkpoint would hold but not give back: anything but plain JSON values.

    Raises:
        ValueError: One of them is something else; the message names it.
    """
    for name, value in facts.items():
        if (found := _not_plain(value)) is not None:
            raise ValueError(
                f"the fact {name!r} holds {found!r} of type {type(found).__name__}, which a checkpoint cannot give "
                "back: give text, numbers, true, false, None, or lists and mappings of these"
            )


def facts_of(name: str, said: Any) -> dict[str, Any]:
    """Return what something says of itself in `facts`, as `name`.key; `name`.kind is None where it says nothing."""
    facts = getattr(said, "facts", None)
    return {f"{name}.{key}": value for key, value in {"kind": None, **(facts() if callable(facts) else {})}.items()}


def check_same_facts(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint that was saved under other facts.

    Older checkpoints know nothing of the order of clips and the task, and always know the epochs: then these are not
    compared.

    Raises:
        ValueError: Naming what differs.
    """
    unsaid = tuple(f"{name}." for name in ("order", "task") if f"{name}.kind" not in before)
    names = [name for name in sorted({*before, *now} - ({"epochs"} - {*now})) if not name.startswith(unsaid)]
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        what = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in changed)
        raise ValueError(f"{path} was saved under other settings ({what}): go back to them, or choose another folder")


def _not_plain(value: Any) -> Any:
    # The first value that is not plain. Exactly these types: a float of numpy is a float, and yet not read back.
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if type(value) in (list, tuple):
        return next((found for item in value if (found := _not_plain(item)) is not None), None)
    return None if value is None or type(value) in (str, int, float, bool) else value


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return weights by file name, and the state, of one checkpoint; tensors are on the CPU.

    Raises:
        ValueError: It is damaged or not there.
    """
    try:
        state: dict[str, Any] = torch.load(path / _STATE, map_location="cpu", weights_only=True)
        return {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}, state
    except Exception as error:  # what torch.load raises on a damaged file varies with the damage
        raise ValueError(
            f"{path} is no readable checkpoint ({error}): delete this folder to go on from the one before it"
        ) from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, on the CPU.

    Raises:
        ValueError: The file is absent or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is no readable weights file ({error})") from error


def _write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Copies: safetensors refuses tensors that share memory, such as tied weights.
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, path)
    _to_disk(path)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
