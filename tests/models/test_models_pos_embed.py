from __future__ import annotations

import math

import pytest
import torch

from tome_audio.models.pos_embed import from_audioset, from_imagenet


def naive_axis(rows: list[torch.Tensor], length: int) -> list[torch.Tensor]:
    """Fit a list of vectors to a length: cut from the middle, or interpolate linearly between pixel centres."""
    side = len(rows)
    if length <= side:
        start = side // 2 - length // 2
        return rows[start : start + length]
    out = []
    for i in range(length):
        position = max(0.0, (i + 0.5) * side / length - 0.5)
        low = math.floor(position)
        high = min(low + 1, side - 1)
        out.append(rows[low] * (1 - (position - low)) + rows[high] * (position - low))
    return out


def naive(pos: torch.Tensor, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    cell = {(f, t): pos[0, 2 + f * source[1] + t].double() for f in range(source[0]) for t in range(source[1])}
    rows = [naive_axis([cell[f, t] for t in range(source[1])], target[1]) for f in range(source[0])]
    columns = [naive_axis([rows[f][t] for f in range(source[0])], target[0]) for t in range(target[1])]
    patches = [columns[t][f] for f in range(target[0]) for t in range(target[1])]
    return torch.stack([*pos[0, :2].double(), *patches])[None]


def random_pos(source: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(source[0])
    return torch.randn(1, 2 + source[0] * source[1], 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("side", [24, 14])
@pytest.mark.parametrize("target", [(12, 101), (12, 50), (12, 12), (8, 64), (11, 13), (1, 1), (24, 24), (30, 7)])
def test_imagenet_rules_match_a_naive_reference(side, target):
    pos = random_pos((side, side))
    torch.testing.assert_close(from_imagenet(pos, (side, side), target), naive(pos, (side, side), target))


@pytest.mark.parametrize("target", [(12, 101), (12, 50), (12, 12), (11, 100), (9, 73), (14, 120), (5, 130), (13, 7)])
def test_audioset_rules_match_a_naive_reference(target):
    pos = random_pos((12, 101))
    torch.testing.assert_close(from_audioset(pos, target), naive(pos, (12, 101), target))


@pytest.mark.parametrize(("t", "first"), [(100, 0), (50, 25), (12, 44), (13, 44), (1, 50)])
def test_audioset_time_cut_starts_at_50_minus_half(t, first):
    pos = torch.arange(12 * 101 + 2).float().reshape(1, -1, 1)
    assert from_audioset(pos, (12, t))[0, 2, 0] == 2 + first


@pytest.mark.parametrize(("f", "first"), [(11, 1), (10, 1), (9, 2), (1, 6)])
def test_audioset_frequency_cut_starts_at_6_minus_half(f, first):
    pos = torch.arange(12 * 101 + 2).float().reshape(1, -1, 1)
    assert from_audioset(pos, (f, 101))[0, 2, 0] == 2 + first * 101


def test_same_grid_and_prefix_rows_are_left_bit_for_bit():
    pos = random_pos((12, 101))
    assert torch.equal(from_audioset(pos, (12, 101)), pos)
    assert torch.equal(from_audioset(pos, (20, 120))[:, :2], pos[:, :2])


def test_dtype_is_kept():
    assert from_audioset(random_pos((12, 101)).bfloat16(), (13, 102)).dtype == torch.bfloat16


def test_wrong_source_or_target_is_refused():
    with pytest.raises(ValueError, match=r"24x24 grid is \(1, 578, C\).*got \(1, 198, 3\)"):
        from_imagenet(random_pos((14, 14)), (24, 24), (12, 12))
    with pytest.raises(ValueError, match=r"12x101 grid is \(1, 1214, C\)"):
        from_audioset(random_pos((24, 24)), (12, 12))
    with pytest.raises(ValueError, match="at least"):
        from_audioset(random_pos((12, 101)), (0, 4))
