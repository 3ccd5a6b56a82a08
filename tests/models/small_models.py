"""Small models with random weights, for the model tests."""

from __future__ import annotations

import torch

from tome_audio.models import AST, KWT


def randomise_(model: torch.nn.Module, seed: int = 0, std: float = 0.2) -> torch.nn.Module:
    """Give every parameter random values, biases, tokens and norm weights too, and switch to eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_ast(**changes: object) -> AST:
    sizes = {
        "width": 48,
        "depth": 2,
        "n_heads": 3,
        "n_classes": 5,
        "n_mels": 48,
        "n_frames": 64,
        "fstride": 12,
        "tstride": 10,
    }
    return randomise_(AST(None, **{**sizes, **changes}))


def small_kwt(**changes: object) -> KWT:
    sizes = {
        "width": 16,
        "depth": 3,
        "n_heads": 2,
        "mlp_width": 32,
        "n_frames": 9,
        "n_coefficients": 10,
        "n_classes": 4,
    }
    return randomise_(KWT(**{**sizes, **changes}))
