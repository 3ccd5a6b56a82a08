import numpy as np
import pytest
import torch

from tome_audio.audio.fbank import mel_filters
from tome_audio.models import AST
from tome_audio.viz.grid import TokenGrid

AST_GRID = TokenGrid(n_mels=128, n_frames=1024, patch=(16, 16), stride=(10, 10), n_prefix=2)


@pytest.mark.parametrize(
    "options", [{}, {"fstride": 16, "tstride": 8}, {"patch": (128, 2), "fstride": 128, "tstride": 2}]
)
def test_the_grid_is_that_of_the_model(options):
    model = AST(None, width=16, depth=1, n_heads=1, n_frames=100, n_classes=2, **options)
    embed = model.v.patch_embed
    grid = TokenGrid(n_mels=128, n_frames=100, patch=embed.patch_size, stride=embed.stride, n_prefix=2)
    assert grid.shape == model.grid and grid.n_tokens == model.n_tokens


@pytest.mark.parametrize(
    ("patch", "stride"), [((16, 16), (10, 10)), ((16, 16), (16, 8)), ((32, 3), (32, 1)), ((4, 6), (3, 5))]
)
def test_a_point_belongs_to_the_patch_whose_centre_is_nearest(patch, stride):
    grid = TokenGrid(n_mels=32, n_frames=48, patch=patch, stride=stride, n_prefix=0)
    frames = (grid.time_edges() - grid.seconds(0)) / grid.hop_seconds
    for edges, size, step, count in (
        (grid.mel_edges(), patch[0], stride[0], grid.shape[0]),
        (frames, patch[1], stride[1], grid.shape[1]),
    ):
        centres = size / 2 + step * np.arange(count)
        assert (
            len(edges) == count + 1
            and edges[0] == pytest.approx(0)
            and edges[-1] == pytest.approx(centres[-1] + size / 2)
        )
        for point in np.arange(0.05, edges[-1], 0.1):
            cell = np.searchsorted(edges, point) - 1
            distance = np.abs(centres - point)
            assert distance[cell] == pytest.approx(distance.min())


def test_full_length_ast_covers_ten_seconds():
    assert AST_GRID.shape == (12, 101) and AST_GRID.n_tokens == 1214
    # The last patch ends at frame 1016 and mel bin 126; frames are drawn around the centre of their 25 ms.
    assert AST_GRID.time_edges()[[0, -1]].tolist() == pytest.approx([0.0075, 10.1675])
    assert AST_GRID.mel_edges()[-1] == 126 and AST_GRID.extent == pytest.approx((0.0075, 10.2475, 0, 128))


def test_frames_are_drawn_where_they_listen():
    """A click lies in the middle of what is drawn for the frame that hears it most."""
    from tome_audio.audio import kaldi_fbank

    clip = torch.zeros(16000)
    clip[8000 - 120 : 8000 + 120] = torch.randn(240)
    frame = int(kaldi_fbank(clip).mean(1).argmax())
    assert AST_GRID.seconds(frame) <= 0.5 <= AST_GRID.seconds(frame + 1)


@pytest.mark.parametrize("hz", [150.0, 440.0, 1000.0, 3000.0, 7500.0])
def test_hertz_are_those_of_the_filter_bank(hz):
    """The filter that a frequency is drawn in is the one that passes most of it."""
    filters = mel_filters(
        128, 8192, 16000, 20.0, 0.0
    )  # finer than AST's 512 points: low filters are narrower than these
    strongest = int(filters[:, round(hz * 8192 / 16000)].argmax())
    assert AST_GRID.mel_position(hz) == pytest.approx(strongest + 0.5, abs=0.6)


def test_ticks_are_inside_in_order_and_apart():
    positions, names = AST_GRID.ticks(apart=0.1)
    assert positions == sorted(positions) and positions[0] >= 0 and positions[-1] <= 128
    assert min(np.diff(positions)) >= 12.8 and names[-1] == "7000"
    for place, name in zip(positions, names, strict=True):
        assert AST_GRID.mel_position(float(name)) == place


@pytest.mark.parametrize("wrong", [{"patch": (16, 200)}, {"stride": (0, 1)}])
def test_patches_that_do_not_fit(wrong):
    with pytest.raises(ValueError, match="do not fit"):
        TokenGrid(**{"n_mels": 128, "n_frames": 100, "patch": (16, 16), "stride": (10, 10), "n_prefix": 2, **wrong})
