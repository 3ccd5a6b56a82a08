"""AST to and from transformers' `ASTForAudioClassification`, with equal logits."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from tome_audio.models.ast import AST, VARIANTS
from tome_audio.models.strict import load_strict

if TYPE_CHECKING:
    from transformers import ASTForAudioClassification

_EMBEDDINGS = "audio_spectrogram_transformer.embeddings"
_OUTSIDE_BLOCKS = {
    "v.cls_token": f"{_EMBEDDINGS}.cls_token",
    "v.dist_token": f"{_EMBEDDINGS}.distillation_token",
    "v.pos_embed": f"{_EMBEDDINGS}.position_embeddings",
    "v.patch_embed.proj": f"{_EMBEDDINGS}.patch_embeddings.projection",
    "v.norm": "audio_spectrogram_transformer.layernorm",
    "mlp_head.0": "classifier.layernorm",
    "mlp_head.1": "classifier.dense",
}
_IN_BLOCKS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_ADVICE = "The names are those of transformers 5.23; install tome_audio[hf] for a version that fits."


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "converting to or from Hugging Face needs the transformers package; install tome_audio[hf]"
        ) from error
    return transformers


def _block_name(index: int) -> str:
    return f"audio_spectrogram_transformer.layers.{index}"


def _whole_keys(depth: int) -> dict[str, str]:
    """Map every key of AST's state dict that is one tensor on both sides to its Hugging Face name."""
    modules = dict(_OUTSIDE_BLOCKS)
    for i in range(depth):
        modules |= {f"v.blocks.{i}.{ours}": f"{_block_name(i)}.{theirs}" for ours, theirs in _IN_BLOCKS.items()}
    keys: dict[str, str] = {}
    for ours, theirs in modules.items():
        suffixes = ("",) if ours.endswith(("token", "pos_embed")) else (".weight", ".bias")
        keys |= {ours + suffix: theirs + suffix for suffix in suffixes}
    return keys


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(f"this AST can not be converted: {what}")


def to_huggingface(ast: AST) -> ASTForAudioClassification:
    """Copy an AST into a new `ASTForAudioClassification` that gives the same logits.

    AST's head has a LayerNorm epsilon of its own (1e-5, the encoder 1e-6), for which Hugging Face's config has
    no place: it is set on the module, and becomes the encoder's once the model was saved and loaded again.

    Args:
        ast: Model to copy; device, dtype and train or eval mode are kept.

    Returns:
        The Hugging Face model, with `id2label` if the AST has labels.

    Raises:
        ImportError: transformers is not installed.
        ValueError: The patches are not square, or the head reads other tokens than Hugging Face's.
    """
    transformers = _transformers()
    patch, stride = ast.v.patch_embed.patch_size, ast.v.patch_embed.stride
    _require(patch[0] == patch[1], f"Hugging Face's AST has square patches, this one {patch[0]}x{patch[1]}")
    _require(ast.n_classes > 0, "it has no classes (n_classes=0), and Hugging Face's has a classification head")
    pool = ast.init_args["pool"]
    _require(pool == "prefix", f"Hugging Face's AST reads class and distillation token, this one has pool={pool!r}")
    blocks: list[Any] = list(ast.v.blocks.children())  # not iter(): a patched model's is not its blocks
    labels = ast.labels or [f"LABEL_{i}" for i in range(ast.n_classes)]
    config = transformers.ASTConfig(
        hidden_size=ast.v.embed_dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        intermediate_size=blocks[0].mlp.fc1.out_features,
        layer_norm_eps=ast.v.norm.eps,
        patch_size=patch[0],
        frequency_stride=stride[0],
        time_stride=stride[1],
        max_length=ast.n_frames,
        num_mel_bins=ast.n_mels,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    ours = ast.state_dict()
    weights = {theirs: ours[key].clone() for key, theirs in _whole_keys(len(blocks)).items()}
    for i in range(len(blocks)):
        for part in ("weight", "bias"):
            split = ours[f"v.blocks.{i}.attn.qkv.{part}"].chunk(3)
            weights |= {f"{_block_name(i)}.{name}.{part}": t.clone() for name, t in zip(_QKV, split, strict=True)}
    # Looked up first: transformers imports lazily, and what it imports (torchaudio) must not make its tensors on meta.
    model_class = transformers.ASTForAudioClassification
    with torch.device("meta"):
        model = model_class(config)
    load_strict(model, weights, "the AST", _ADVICE, assign=True)
    model.classifier.layernorm.eps = ast.mlp_head[0].eps
    return model.train(ast.training)


def _check_config(hf_model: Any) -> None:
    config = hf_model.config
    _require(config.hidden_act == "gelu", f"its activation is {config.hidden_act!r}, AST's is 'gelu'")
    _require(bool(config.qkv_bias), "it has qkv_bias=False, AST's attention has biases")
    _require(isinstance(config.patch_size, int), f"patch_size must be one int, got {config.patch_size}")
    _require(isinstance(hf_model.classifier.dense, torch.nn.Linear), "it has no classification head (num_labels=0)")
    inner = hf_model.audio_spectrogram_transformer.layers[0].attention.q_proj.out_features
    _require(inner == config.hidden_size, f"its attention is {inner} wide inside a model of {config.hidden_size}")
    dropout = max(config.hidden_dropout_prob, config.attention_probs_dropout_prob)
    if dropout > 0:
        warnings.warn(
            f"the Hugging Face model trains with dropout {dropout}, AST without: outputs in eval mode are equal, "
            "further training is not",
            stacklevel=3,
        )


def _labels(config: Any) -> list[str] | None:
    labels = [config.id2label[i] for i in range(config.num_labels)]
    return None if labels == [f"LABEL_{i}" for i in range(len(labels))] else labels


def _variant(config: Any) -> dict[str, Any]:
    size = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
    named = [name for name, variant in VARIANTS.items() if variant[:3] == size]
    if named:
        return {"variant": named[-1]}
    return {"variant": None, "width": size[0], "depth": size[1], "n_heads": size[2]}


def from_huggingface(hf_model: ASTForAudioClassification) -> AST:
    """Copy a Hugging Face AST into a new `AST` that gives the same logits.

    Args:
        hf_model: Model to copy, in memory, with its classification head; device, dtype and train or eval mode
            are kept. Dropout is not carried over (a warning says so); it does nothing in eval mode.

    Returns:
        The model, with `labels` if the config names the classes.

    Raises:
        ImportError: transformers is not installed.
        ValueError: The model is of another class, or its config is one that AST does not have.
    """
    transformers = _transformers()
    if not isinstance(hf_model, transformers.ASTForAudioClassification):
        raise ValueError(
            f"from_huggingface takes an ASTForAudioClassification, got {type(hf_model).__name__}; load the model "
            "with ASTForAudioClassification.from_pretrained"
        )
    _check_config(hf_model)
    config = hf_model.config
    with torch.device("meta"):
        ast = AST(
            **_variant(config),
            n_classes=config.num_labels,
            fstride=config.frequency_stride,
            tstride=config.time_stride,
            n_mels=config.num_mel_bins,
            n_frames=config.max_length,
            patch=config.patch_size,
            mlp_width=config.intermediate_size,
            norm_eps=hf_model.audio_spectrogram_transformer.layernorm.eps,
            head_norm_eps=hf_model.classifier.layernorm.eps,
            labels=_labels(config),
        )
    theirs, depth = hf_model.state_dict(), config.num_hidden_layers
    names = _whole_keys(depth)
    absent = sorted(set(names.values()) - set(theirs))
    _require(not absent, f"it has no {', '.join(absent[:4])}. {_ADVICE}")
    weights = {ours: theirs[key].clone() for ours, key in names.items()}
    for i in range(depth):
        for part in ("weight", "bias"):
            parts = [theirs[f"{_block_name(i)}.{name}.{part}"] for name in _QKV]
            weights[f"v.blocks.{i}.attn.qkv.{part}"] = torch.cat(parts)
    load_strict(ast, weights, "the Hugging Face model", _ADVICE, assign=True)
    return ast.train(hf_model.training)
