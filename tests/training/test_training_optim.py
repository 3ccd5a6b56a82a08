from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tome_audio.training.optim import make_optimizer, warmup_cosine


@given(st.integers(1, 2000), st.floats(0, 0.9))
def test_factor_rises_to_its_top_then_falls_to_nought(total, warmup):
    factors = [warmup_cosine(step, total, warmup) for step in range(total + 1)]
    top = factors.index(max(factors))
    assert all(0 <= f <= 1 for f in factors)
    assert all(a < b for a, b in pairwise(factors[: top + 1]))
    assert all(a > b for a, b in pairwise(factors[top:]))
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert top == int(warmup * total)


def test_factor_known_points():
    assert warmup_cosine(0, 100, 0.1) == pytest.approx(1 / 11)  # the first step moves already
    assert warmup_cosine(10, 100, 0.1) == 1.0
    assert warmup_cosine(55, 100, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0, 100, 0.0) == 1.0


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 3, 4))
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_only_weight_matrices_decay_and_frozen_ones_stay_out():
    model = Tokens()
    optimizer = make_optimizer(model, lr=0.1, weight_decay=0.3)
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: decay_of.get(id(p)) for name, p in model.named_parameters()}
    assert named == {
        "cls_token": 0.0, "pos_embed": 0.0, "norm.weight": 0.0, "norm.bias": 0.0, "fc.weight": 0.3, "fc.bias": 0.0,
        "frozen.weight": None, "frozen.bias": None,
    }  # fmt: skip


def test_a_frozen_model_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter: set requires_grad"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), 0.1, 0.0)
