"""The state of a run on disk: written whole or not at all, refused where it does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

State = dict[str, Any]


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: State, records: list[State]
) -> None:
    """Save a run after an epoch. A run killed while saving leaves the state of the epoch before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "settings": settings, "records": records}, partial)
    os.replace(partial, path)  # noqa: PTH105


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: State) -> list[State]:
    """Load a run into `model` and `optimizer` and return the records of its epochs.

    Raises:
        ValueError: Not a saved state, saved under other settings, or of another model.
    """
    advice = "delete it to start anew"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved: State = state["settings"]
        records: list[State] = state["records"]
    except Exception as error:  # what torch.load raises on a damaged file varies with the damage
        raise ValueError(f"{path} is not a saved training state: {advice} ({error})") from error
    changed = [f"{key} was {saved.get(key)}, now {now}" for key, now in settings.items() if saved.get(key) != now]
    if changed:
        raise ValueError(f"{path} was saved under other settings ({'; '.join(changed)}): {advice}")
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ValueError(f"{path} holds another model: {advice} ({error})") from error
    optimizer.load_state_dict(state["optimizer"])
    return records
