"""Positional embeddings of AST, carried from one patch grid to another.

The rules are those of the Audio Spectrogram Transformer (Gong et al., 2021, arXiv 2104.01778): each axis on
its own, time first and frequency second; a smaller axis is cut from the middle, a larger one is interpolated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

AUDIOSET_GRID = (12, 101)
_PREFIX = 2  # class and distillation token


def centre_cut(grid: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Cut `length` entries from the middle of one axis, starting at side // 2 - length // 2."""
    start = grid.shape[dim] // 2 - length // 2
    return grid.narrow(dim, start, length)


def resize_grid(grid: torch.Tensor, target: tuple[int, int]) -> torch.Tensor:
    """Fit a grid of embeddings (1, C, F, T) to a target (f, t): time first, then frequency.

    An axis that is to be no longer than it was is cut from the middle; otherwise it is interpolated
    bilinearly.
    """
    for dim, length in ((3, target[1]), (2, target[0])):
        if length <= grid.shape[dim]:
            grid = centre_cut(grid, length, dim)
        else:
            size = (grid.shape[2], length) if dim == 3 else (length, grid.shape[3])
            grid = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
    return grid


def _resize(pos: torch.Tensor, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    n_tokens = _PREFIX + source[0] * source[1]
    if pos.ndim != 3 or pos.shape[0] != 1 or pos.shape[1] != n_tokens:
        raise ValueError(
            f"a positional embedding for a {source[0]}x{source[1]} grid is (1, {n_tokens}, C) with its two "
            f"prefix rows, got {tuple(pos.shape)}; pass the grid that the weights were trained with"
        )
    if min(target) < 1:
        raise ValueError(f"the target grid (f, t) must be at least (1, 1), got {target}")
    prefix, patches = pos[:, :_PREFIX], pos[:, _PREFIX:]
    exact = torch.promote_types(pos.dtype, torch.float32)  # half precision interpolates badly
    grid = patches.to(exact).reshape(1, *source, -1).permute(0, 3, 1, 2)
    patches = resize_grid(grid, target).flatten(2).transpose(1, 2)
    return torch.cat((prefix, patches.to(pos.dtype)), dim=1)


def from_imagenet(pos: torch.Tensor, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """Turn the positional embedding of a distilled DeiT into that of an AST.

    Args:
        pos: Embedding (1, 2 + P, C); rows 0 and 1 belong to the class and distillation tokens.
        source: Grid of the DeiT, rows by columns: (24, 24) at 384 pixels, (14, 14) at 224 pixels.
        target: Grid (f, t) of the AST, frequency by time.

    Returns:
        Embedding (1, 2 + f * t, C), frequency-major; the two prefix rows are unchanged.

    Raises:
        ValueError: The embedding does not belong to the source grid, or the target is empty.
    """
    return _resize(pos, source, target)


def from_audioset(pos: torch.Tensor, target: tuple[int, int]) -> torch.Tensor:
    """Turn the positional embedding of the AudioSet model with strides 10/10 into one for another grid.

    Args:
        pos: Embedding (1, 2 + 12 * 101, C) of a model trained on 1024 frames of 128 mel bins.
        target: Grid (f, t) of the new model, frequency by time.

    Returns:
        Embedding (1, 2 + f * t, C), frequency-major; the two prefix rows are unchanged.

    Raises:
        ValueError: The embedding does not belong to a 12x101 grid, or the target is empty.
    """
    return _resize(pos, AUDIOSET_GRID, target)
