from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tome_audio.audio import segments


def ramp(n):
    return torch.arange(1, n + 1, dtype=torch.float32)


def test_whole_pieces_are_cut_in_order():
    assert segments(ramp(6), 3).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_last_piece_is_played_again_until_full():
    assert segments(ramp(7), 5).tolist() == [[1, 2, 3, 4, 5], [6, 7, 6, 7, 6]]


@pytest.mark.parametrize("n", [1, 2, 3, 99, 100])
def test_a_short_clip_is_one_piece_end_to_end(n):
    (piece,) = segments(ramp(n), 100)
    assert piece.tolist() == [i % n + 1 for i in range(100)]


def test_a_last_piece_below_a_tenth_is_left_out_only_beside_others():
    assert len(segments(ramp(109), 100)) == 1
    assert len(segments(ramp(110), 100)) == 2
    assert len(segments(ramp(9), 100)) == 1


@pytest.mark.parametrize("n", [3, 7, 101, 157])
def test_legacy_repeats_every_sample_as_numpy_repeat_and_keeps_all(n):
    pieces = segments(ramp(n), 50, legacy_repeat=True)
    assert len(pieces) == math.ceil(n / 50)
    last = ramp(n).numpy()[(len(pieces) - 1) * 50 :]
    assert pieces[-1].tolist() == np.repeat(last, math.ceil(50 / len(last)))[:50].tolist()
    assert torch.equal(pieces[:-1].flatten(), ramp(n)[: 50 * (len(pieces) - 1)])


@pytest.mark.parametrize("n", [5, 10, 13])
def test_the_clip_is_left_alone_and_not_shared(n):
    clip = ramp(n)
    segments(clip, 5).zero_()
    assert torch.equal(clip, ramp(n))


def test_silence_and_dtype_stay():
    pieces = segments(torch.zeros(7, dtype=torch.float64), 5)
    assert pieces.dtype == torch.float64 and not pieces.any()


@pytest.mark.parametrize(
    ("clip", "length", "message"),
    [
        (torch.ones(5), 0, "length must be at least 1 sample, got 0"),
        (torch.ones(2, 5), 3, r"must be a tensor of shape \(T,\) with T >= 1, got \(2, 5\)"),
        (torch.ones(0), 3, "T >= 1"),
        (torch.ones(5, dtype=torch.int16), 3, "must have a float dtype"),
        (torch.tensor([1.0, math.nan]), 3, "NaN or infinite samples"),
    ],
)
def test_bad_input_is_named(clip, length, message):
    with pytest.raises(ValueError, match=message):
        segments(clip, length)
