from __future__ import annotations

import torch

from tome_audio.training.devices import Devices


def test_accumulation_told_to_the_launcher_does_not_divide_gradients(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    weight = torch.tensor(2.0, requires_grad=True)
    Devices("fp32", cpu=True).backward(3 * weight)
    assert weight.grad.item() == 3.0
