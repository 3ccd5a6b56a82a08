"""The patched encoders against the naive float64 NumPy reference, over random shapes, prefixes, sizes and schedules."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from tome_audio.models import KWT
from tome_audio.patch import apply_patch, trace
from tome_audio.patch.model import merged_blocks


def randomised(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.double().eval()


def weights(blocks):
    return [{name: value.numpy() for name, value in block.state_dict().items()} for block in blocks.children()]


schedules = st.one_of(
    st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3), st.tuples(st.integers(0, 6), st.sampled_from([-1, 0.5]))
)
options = {
    "n_prefix": st.integers(0, 4),
    "n_patches": st.integers(1, 14),
    "batch": st.integers(1, 2),
    "n_heads": st.sampled_from([1, 2, 3]),
    "r": schedules,
    "metric": st.sampled_from(["key", "value", "hidden"]),
    "matching": st.sampled_from(["bipartite", "ward"]),
    "prop_attn": st.booleans(),
    "seed": st.integers(0, 999),
}


@pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")
@given(**options)
@settings(max_examples=60, deadline=None)
def test_timm_encoder(n_prefix, n_patches, batch, n_heads, r, metric, matching, prop_attn, seed):
    width = 6 * n_heads
    model = randomised(
        VisionTransformer(img_size=16, patch_size=16, embed_dim=width, depth=3, num_heads=n_heads, num_classes=0), seed
    )
    apply_patch(model, r, metric=metric, matching=matching, prop_attn=prop_attn, n_prefix=n_prefix)
    x = torch.randn(batch, n_prefix + n_patches, width, generator=torch.Generator().manual_seed(seed)).double()
    with trace(model) as traces, torch.no_grad():
        y = model.blocks(x)
    from tome_audio.merge import expand_schedule

    for clip in range(batch):
        history = reference.pre_norm_encoder(
            weights(model.blocks), x[clip].numpy(), expand_schedule(r, 3), n_heads=n_heads, n_prefix=n_prefix,
            metric=metric, matching=matching, prop_attn=prop_attn,
        )  # fmt: skip
        np.testing.assert_allclose(y[clip].numpy(), history[-1][0], atol=1e-5, rtol=1e-5)
        for layer, (tokens, sizes) in enumerate(history):
            assert traces[0].tokens[layer + 1] == len(tokens)
            got = traces[0].sizes[layer]
            np.testing.assert_array_equal(np.ones(len(sizes)) if got is None else got[clip].numpy(), sizes)


@pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")
@given(
    n_frames=st.integers(3, 16), n_heads=st.sampled_from([1, 2]), r=schedules,
    metric=st.sampled_from(["key", "value", "hidden"]), prop_attn=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_kwt_encoder(n_frames, n_heads, r, metric, prop_attn, seed):
    width = 6 * n_heads
    model = randomised(
        KWT(width=width, depth=3, n_heads=n_heads, mlp_width=10, n_frames=n_frames, n_coefficients=4, n_classes=2), seed
    )
    apply_patch(model, r, metric=metric, prop_attn=prop_attn)
    x = torch.randn(1, n_frames + 1, width, generator=torch.Generator().manual_seed(seed)).double()
    from tome_audio.merge import expand_schedule

    with torch.no_grad():
        y = model.blocks(x)
    history = reference.post_norm_encoder(
        weights(model.blocks), x[0].numpy(), expand_schedule(r, 3), n_heads=n_heads, n_prefix=1, metric=metric,
        prop_attn=prop_attn,
    )  # fmt: skip
    np.testing.assert_allclose(y[0].numpy(), history[-1][0], atol=1e-5, rtol=1e-5)


@given(n_patches=st.integers(2, 12), r=st.integers(0, 6), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_one_block_with_given_sizes(n_patches, r, seed):
    """Sizes other than what merging would give: the bias and the weighted mean must follow them."""
    model = randomised(VisionTransformer(img_size=16, patch_size=16, embed_dim=12, depth=1, num_heads=2), seed)
    r = min(r, n_patches // 2)
    apply_patch(model, r)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 1 + n_patches, 12, generator=generator).double()
    sizes = torch.randint(1, 9, (1, 1 + n_patches), generator=generator).double()
    step = next(iter(merged_blocks(model)[0]))
    step.state.sizes[0] = sizes
    with torch.no_grad():
        y = step(x)
    history = reference.pre_norm_encoder(
        weights(model.blocks), x[0].numpy(), [r], n_heads=2, n_prefix=1, metric="key", prop_attn=True,
        sizes=sizes[0].numpy(),
    )  # fmt: skip
    np.testing.assert_allclose(y[0].numpy(), history[0][0], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(step.state.sizes[1][0].numpy(), history[0][1])
