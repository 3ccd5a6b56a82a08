from __future__ import annotations

import pytest
import torch
from small_models import small_ast

from tome_audio.models.patch_embed import PatchConv2d, SpectrogramPatchEmbed, patch_grid


@pytest.mark.parametrize(
    ("n_frames", "stride", "grid"),
    [
        (1024, 10, (12, 101)), (512, 10, (12, 50)), (128, 10, (12, 12)),
        (1024, 12, (10, 85)), (1024, 14, (9, 73)), (1024, 16, (8, 64)),
    ],
)  # fmt: skip
def test_grid_of_published_models(n_frames, stride, grid):
    assert patch_grid((128, n_frames), (16, 16), (stride, stride)) == grid


@pytest.mark.parametrize("patch", [(8, 8), (4, 16)])
def test_tokens_are_frequency_major(patch):
    """One loud cell of a silent spectrogram lights up the one token index = f * t_dim + t."""
    model = small_ast(patch=patch, fstride=patch[0], tstride=patch[1])
    f_dim, t_dim = model.grid
    seen = []
    model.v.patch_embed.register_forward_hook(lambda module, args, out: seen.append(out))
    torch.nn.init.zeros_(model.v.patch_embed.proj.bias)
    for f, t in [(0, 0), (0, t_dim - 1), (f_dim - 1, 0), (f_dim // 2, t_dim // 3)]:
        x = torch.zeros(1, model.n_frames, model.n_mels)
        x[0, t * patch[1] + 1, f * patch[0] + 1] = 1.0
        model(x)
        lit = seen.pop()[0].abs().sum(dim=1).nonzero().flatten().tolist()
        assert lit == [f * t_dim + t]


@pytest.mark.parametrize(
    ("patch", "stride"), [((16, 16), (10, 10)), ((16, 16), (16, 16)), ((24, 4), (24, 2)), ((5, 3), (2, 4))]
)
@pytest.mark.parametrize("bias", [True, False])
def test_the_matrix_product_is_the_convolution(patch, stride, bias):
    """Values and gradients, against PyTorch's convolution in float64."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 24, 37, dtype=torch.float64, requires_grad=True)
    layer = PatchConv2d(1, 6, patch, stride, bias=bias, dtype=torch.float64)
    expected, found = torch.nn.Conv2d.forward(layer, x), layer(x)
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-12)
    weight = torch.randn_like(expected)
    grads = [torch.autograd.grad((values * weight).sum(), (x, *layer.parameters())) for values in (expected, found)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*grads, strict=True))


def test_tokens_are_not_copied():
    embed = SpectrogramPatchEmbed(img_size=(24, 37), patch_size=(16, 16), stride=(8, 8), embed_dim=4)
    assert embed(torch.randn(2, 1, 24, 37)).is_contiguous()


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="smaller than one 16x16 patch"):
        patch_grid((128, 15), (16, 16), (10, 10))
    with pytest.raises(ValueError, match="at least 1"):
        patch_grid((128, 100), (16, 16), (0, 10))
