from __future__ import annotations

import pytest
import torch
from torch import nn

from tome_audio.models.strict import CheckpointError, load_strict


def test_every_problem_is_in_one_error_and_nothing_is_loaded():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = {key: value + 1 for key, value in before.items()}
    del given["0.bias"]
    given["extra"] = torch.zeros(1)
    given["1.weight"] = torch.zeros(4, 9)
    with pytest.raises(CheckpointError) as error:
        load_strict(model, given, "the file", "Try another.")
    assert str(error.value) == (
        "the file does not fit this Sequential: missing keys: 0.bias; unexpected keys: extra; "
        "wrong shapes: 1.weight is (4, 9), needs (4, 3). Try another."
    )
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_long_lists_are_cut():
    with pytest.raises(CheckpointError, match="k5 and 4 more"):
        load_strict(nn.Identity(), {f"k{i}": torch.zeros(1) for i in range(10)}, "x", "y")
