"""`apply_patch` and `remove_patch`: turn a model into one that merges tokens, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tome_audio.merge import Rate, size_bias
from tome_audio.patch.blocks import MergedBlock, MergedBlocks, check_depth
from tome_audio.patch.classes import Swapped, restore_class, swap_class
from tome_audio.patch.config import Matching, MergeConfig, Metric
from tome_audio.patch.model import PatchedModel, is_patched, merge_config
from tome_audio.patch.recording import add_recorder, record, remove_recorder
from tome_audio.patch.registry import (
    Adapter,
    UnsupportedModelError,
    class_names,
    find_encoders,
    registered_adapters,
)

ModelT = TypeVar("ModelT", bound=nn.Module)


def apply_patch(
    model: ModelT,
    r: Rate = 0,
    *,
    metric: Metric = "key",
    matching: Matching | str = "bipartite",
    prop_attn: bool = True,
    unmerge: bool = False,
    n_prefix: int | None = None,
    prefix_only: bool | None = None,
    seed: int = 0,
    rounds: int = 1,
) -> ModelT:
    """Let the model merge tokens between attention and feed-forward of each block, in place, and return it.

    Afterwards `model.r = 32` changes how much is merged at any time; r = 0 is bit for bit the unpatched model. Weights
    and state_dict keys do not change. A model that is already patched is patched anew. Use one process per GPU.

    Args:
        model: a model of a registered family, or a module that contains one.
        r: tokens merged per block: an int, a list with one per block, or (r, inflection); a `Schedule`, which may also
            merge before the first block; a `ComputeTarget`, which says how many times fewer MACs are wanted; or a
            `SimilarityThreshold`, which merges what is similar enough.
        metric: what similarity is measured on: attention keys, values, or the hidden state after attention.
        matching: "bipartite" (Bolya et al. 2023), "adjacent" (neighbours only), "ward" (small tokens first where they
            are as similar), "random" (a control), or a name given to `tome_audio.merge.register_matching`.
        prop_attn: add log(size) to the attention scores, so that a merged token weighs as much as its parts.
        unmerge: every block gives back all N tokens, so that features stay dense (`forward_intermediates`, masks per
            frame); costs two copies per block.
        n_prefix: protected tokens at the front; None asks the model.
        prefix_only: let the last block compute only the prefix tokens, with the same logits to rounding. None does so
            while tokens merge and the model's own `forward` is called and reads nothing else; `forward_features` and
            requested hidden states still get all tokens. True does so always, also with r = 0.
        seed: seed of random matching.
        rounds: split what a block merges over so many matchings, each of which sees the merged tokens; nearer to the
            unmerged model, for the time of the additional matchings.

    Raises:
        UnsupportedModelError: if no family serves the model, or a block of it cannot be split exactly.
        ValueError: if an option is not understood, or `model.r` was set before patching.
    """
    config = MergeConfig(
        r=r, metric=metric, matching=matching, prop_attn=prop_attn, unmerge=unmerge, n_prefix=n_prefix,
        prefix_only=prefix_only, seed=seed, rounds=rounds,
    )  # fmt: skip
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"apply_patch needs a torch.nn.Module, got {type(model).__name__}")
    before = merge_config(model) if is_patched(model) else None
    if before is not None:
        remove_patch(model)
    try:
        _check_model(model, config)
    except Exception:
        if before is not None:  # a refused patch leaves the model as it was
            _patch_model(model, before)
        raise
    return _patch_model(model, config)


def remove_patch(model: ModelT) -> ModelT:
    """Undo `apply_patch` in place: classes, block lists and outputs are what they were. Returns the model.

    Raises:
        NotPatchedError: if the model is not patched.
    """
    if not isinstance(model, Swapped):
        merge_config(model)
    _refuse_block_list(model)
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if isinstance(child, MergedBlocks):
                module._modules[name] = child.unwrap()
        remove_recorder(module)
        restore_class(module)
    return model


def _check_model(model: nn.Module, config: MergeConfig) -> None:
    """Raise unless the model can be patched exactly; it is left as it is."""
    _refuse_block_list(model)
    encoders = list(find_encoders(model))
    if not encoders:
        raise UnsupportedModelError(
            f"{class_names(type(model))[0]} holds no encoder of a known family ({', '.join(registered_adapters())}); "
            "to add one see tome_audio.patch.registry"
        )
    for module in (model, *(encoder for encoder, _ in encoders)):
        if hasattr(module, "r"):
            raise ValueError(
                f"{type(module).__name__} already has an attribute r. If you set model.r before apply_patch, it had no "
                "effect: `del model.r`, patch, then set it. If it is the model's own, patch the encoder inside instead"
            )
    for encoder, adapter in encoders:
        _check_encoder(encoder, adapter, config)
    blocks = [block for encoder, adapter in encoders for block in getattr(encoder, adapter.blocks).children()]
    if len({id(block) for block in blocks}) < len(blocks):
        raise UnsupportedModelError(
            f"{type(model).__name__} uses a block in more than one place; merging needs blocks of its own in each"
        )


def _refuse_block_list(model: nn.Module) -> None:
    if isinstance(model, MergedBlocks):
        raise UnsupportedModelError("this is the block list of a patched model: give the model itself")


def _patch_model(model: ModelT, config: MergeConfig) -> ModelT:
    for encoder, adapter in list(find_encoders(model)):
        owners = [m for m in model.modules() if class_names(type(m))[0] in adapter.classifiers and _holds(m, encoder)]
        reads_prefix = bool(owners) or (encoder is model and adapter.reads_prefix(encoder))
        _patch_encoder(encoder, adapter, config, reads_prefix)
        for owner in (owner for owner in owners if not isinstance(owner, Swapped)):
            swap_class(owner, adapter.classifiers[class_names(type(owner))[0]])
    if not isinstance(model, PatchedModel):
        swap_class(model, PatchedModel)
    return model


def _holds(model: nn.Module, part: nn.Module) -> bool:
    return any(module is part for module in model.modules())


def _patch_encoder(encoder: nn.Module, adapter: Adapter, config: MergeConfig, reads_prefix: bool) -> None:
    original = encoder._modules[adapter.blocks]
    assert original is not None  # _check_encoder has seen it
    for block in original.children():
        swap_class(block, MergedBlock)
    n_prefix = adapter.n_prefix(encoder) if config.n_prefix is None else config.n_prefix
    costs = tuple(adapter.cost(block) for block in original.children())
    merged = MergedBlocks.wrap(
        original,
        adapter,
        config,
        n_prefix,
        adapter.pools_patches(encoder),
        reads_prefix,
        adapter.n_prefix(encoder),
        costs,
        adapter.grid_rows(encoder),
    )
    merged.prepare()
    encoder._modules[adapter.blocks] = merged
    swap_class(encoder, adapter.encoder_mixin or PatchedModel)


def _check_encoder(encoder: nn.Module, adapter: Adapter, config: MergeConfig) -> None:
    """Raise unless every block of the encoder can be split exactly; nothing has been changed yet."""
    where = class_names(type(encoder))[0]
    blocks: Any = getattr(encoder, adapter.blocks, None)
    if type(blocks) not in (nn.Sequential, nn.ModuleList) or len(blocks) == 0:
        raise UnsupportedModelError(
            f"{where}.{adapter.blocks} should be a list of blocks (nn.Sequential or nn.ModuleList), "
            f"found {type(blocks).__name__}; this version of the model is not supported by {adapter.name!r}"
        )
    check_depth(config.r, len(blocks))
    own = adapter.n_prefix(encoder)
    n_prefix = own if config.n_prefix is None else config.n_prefix
    if config.prefix_only and (adapter.pools_patches(encoder) or not 0 < own <= n_prefix):
        raise UnsupportedModelError(
            f"prefix_only=True, but the head of {where} reads tokens behind the {n_prefix} "
            "prefix tokens; leave prefix_only out"
        )
    for index, block in enumerate(blocks):
        base: Any = next((c for c in type(block).__mro__ if class_names(c)[0] == adapter.block_class), None)
        if base is None or type(block).forward is not base.forward or "forward" in block.__dict__:
            raise UnsupportedModelError(
                f"block {index} of {where} is a {class_names(type(block))[0]} with a forward of its own, but "
                f"{adapter.name!r} knows {adapter.block_class}; patch before wrapping or dispatching the model, or "
                "register an adapter for this block (tome_audio.patch.registry)"
            )
        _check_split(adapter, block, config, f"block {index} of {where}")
    if config.prefix_only and not adapter.can_attend_prefix(blocks[-1]):
        raise UnsupportedModelError(
            f"prefix_only=True, but the last block of {where} cannot be run for the prefix alone: {adapter.name!r} "
            "does not know how, its attention is not the fused one, or a part of it was replaced or hooked"
        )


@torch.no_grad()
def _check_split(adapter: Adapter, block: nn.Module, config: MergeConfig, where: str) -> None:
    """Raise unless the block, run in two parts on random tokens, gives what it gives in one."""
    projection: Any = adapter.projection(block, config.metric)
    weight, width = getattr(projection, "weight", None), getattr(projection, "in_features", None)
    if weight is None or width is None:
        raise UnsupportedModelError(
            f"the {config.metric}s of {where} come from a {type(projection).__name__}, not from a linear layer with a "
            "weight; patch before replacing layers"
        )
    if weight.is_meta:
        return
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, width, generator=generator).to(weight.device, weight.dtype)
    x[:, 4] = x[:, 3]  # a token and its double, which must attend and be attended to like one token of size 2
    bias = size_bias(torch.tensor([[1.0, 1.0, 1.0, 2.0]], device=weight.device), weight.dtype)
    training = [(module, module.training) for module in block.modules()]
    add_recorder(projection)
    try:
        block.eval()
        whole: Any = block(x)
        attended, projected = record(projection, adapter.attend, block, x, None)
        split = adapter.feed_forward(block, attended)
        metric = adapter.read_metric(block, config.metric, projected)
        first = attended[:, :2]
        if config.prefix_only is not False and adapter.can_attend_prefix(block):
            first = adapter.attend_prefix(block, x, None, 2)
        weighed = adapter.attend(block, x[:, :4], bias) if config.prop_attn else attended[:, :4]
    finally:
        remove_recorder(projection)
        for module, flag in training:
            module.training = flag
    if metric.ndim != 3 or metric.shape[:2] != x.shape[:2]:
        raise UnsupportedModelError(
            f"the {config.metric}s of {where} should be (B, N, C), but {adapter.name!r} reads a tensor of shape "
            f"{tuple(metric.shape)} for B=1 and N=5"
        )
    _check_equal(whole, split, f"{where}, run in two parts as {adapter.name!r} does,")
    _check_equal(attended[:, :2], first, f"{where}, run for two tokens alone as {adapter.name!r} does,")
    _check_equal(attended[:, :4], weighed, f"attention of {where} with a token of size 2 as {adapter.name!r} weighs it")


def _check_equal(wanted: Tensor, got: Tensor, what: str) -> None:
    # Eager attention of Hugging Face takes its softmax in float32 whatever the dtype: float64 gets no finer a test.
    tolerance = max(torch.finfo(wanted.dtype).eps, torch.finfo(torch.float32).eps) ** 0.5
    if not torch.allclose(wanted, got, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise UnsupportedModelError(
            f"{what} differs from the model's own result by {(wanted - got).abs().max().item():.2g}; this kind of "
            "block is not supported (see tome_audio.patch.registry to add it)"
        )
