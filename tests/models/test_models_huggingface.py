from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from small_models import noise, randomise_, small_ast

from tome_audio.models import from_huggingface, to_huggingface

transformers = pytest.importorskip("transformers", reason="the tome_audio[hf] extra is not installed")

SIZES = [
    {},
    {
        "width": 64,
        "depth": 1,
        "n_heads": 4,
        "mlp_width": 96,
        "patch": 8,
        "fstride": 5,
        "tstride": 7,
        "n_frames": 70,
        "n_mels": 30,
    },
    {"fstride": 16, "tstride": 16, "n_classes": 2},
]


def with_small_variance(ast):
    """Shrink what reaches the norms, so that a wrong epsilon shows in the logits."""
    with torch.no_grad():
        for name, parameter in ast.named_parameters():
            if name.startswith(("v.patch_embed", "v.cls", "v.dist", "v.pos")):
                parameter.mul_(1e-2)
        ast.v.norm.weight.mul_(1e-2)
        ast.v.norm.bias.mul_(1e-2)
    return ast


def hf_config(**changes):
    config = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 100, "patch_size": 16,
        "frequency_stride": 12, "time_stride": 10, "max_length": 64, "num_mel_bins": 48, "num_labels": 5,
    }  # fmt: skip
    return transformers.ASTConfig(**{**config, **changes})


def hf_model(**changes):
    return randomise_(transformers.ASTForAudioClassification(hf_config(**changes)))


@torch.no_grad()
def difference(ast, hf):
    x = noise(3, ast.n_frames, ast.n_mels)
    ours, theirs = ast(x), hf(x).logits
    assert ours.shape == theirs.shape == (3, ast.n_classes)
    assert ours.std(dim=0).max() > 1e-3  # the logits depend on the input
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shrink", [False, True])
def test_to_huggingface_gives_the_same_logits(sizes, shrink):
    ast = small_ast(**sizes)
    ast = with_small_variance(ast) if shrink else ast
    assert difference(ast, to_huggingface(ast)) < 1e-4


@pytest.mark.parametrize(
    "changes", [{}, {"frequency_stride": 7, "max_length": 90, "num_labels": 3}, {"layer_norm_eps": 1e-3}]
)
def test_from_huggingface_gives_the_same_logits(changes):
    model = hf_model(**changes)
    assert difference(from_huggingface(model), model) < 1e-4


def test_a_named_size_is_recognised():
    model = randomise_(
        transformers.ASTForAudioClassification(
            hf_config(hidden_size=192, num_hidden_layers=12, intermediate_size=768, max_length=32)
        ),
        std=0.05,
    )
    ast = from_huggingface(model)
    assert ast.init_args["variant"] == "tiny224"
    assert difference(ast, model) < 1e-4


def test_there_and_back_is_exact():
    ast = small_ast(labels=list("abcde"))
    back = from_huggingface(to_huggingface(ast))
    ours, theirs = ast.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (back.mlp_head[0].eps, back.v.blocks[0].norm1.eps, back.labels) == (1e-5, 1e-6, tuple("abcde"))
    assert back.v.cls_token.data_ptr() != ast.v.cls_token.data_ptr()


def test_labels_dtype_and_mode_are_kept():
    hf = to_huggingface(small_ast(labels=list("abcde")).bfloat16().train())
    assert hf.config.id2label == dict(enumerate("abcde"))
    assert (hf.config.label2id["c"], hf.dtype, hf.training) == (2, torch.bfloat16, True)
    ast = from_huggingface(hf)
    assert (ast.labels, ast.v.cls_token.dtype, ast.training) == (tuple("abcde"), torch.bfloat16, True)
    assert from_huggingface(hf_model()).labels is None


def test_saved_and_loaded_by_transformers(tmp_path):
    ast = small_ast()
    to_huggingface(ast).save_pretrained(tmp_path)
    loaded = transformers.ASTForAudioClassification.from_pretrained(tmp_path).eval()
    assert difference(ast, loaded) < 1e-4
    assert difference(from_huggingface(loaded), loaded) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "its activation is 'relu'"),
        ({"qkv_bias": False}, "qkv_bias=False"),
        ({"patch_size": [16, 16]}, "patch_size must be one int"),
        ({"num_labels": 0}, "no classification head"),
    ],
)
def test_configs_that_ast_does_not_have_are_refused(changes, message):
    model = hf_model(**{k: v for k, v in changes.items() if k != "patch_size"})
    model.config.patch_size = changes.get("patch_size", model.config.patch_size)
    with pytest.raises(ValueError, match=f"can not be converted: .*{message}"):
        from_huggingface(model)


def test_other_objects_are_refused():
    with pytest.raises(ValueError, match="takes an ASTForAudioClassification, got ASTModel"):
        from_huggingface(transformers.ASTModel(hf_config()))
    with pytest.raises(ValueError, match="square patches, this one 8x16"):
        to_huggingface(small_ast(patch=(8, 16)))


def test_dropout_is_noted():
    with pytest.warns(UserWarning, match=r"trains with dropout 0\.1"):
        from_huggingface(hf_model(hidden_dropout_prob=0.1))


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"install tome_audio\[hf\]"):
        to_huggingface(small_ast())


def test_importing_models_loads_neither_transformers_nor_torchaudio():
    code = "import sys, tome_audio.models; print({'transformers', 'torchaudio'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_first_conversion_leaves_torchaudio_usable():
    """transformers imports torchaudio when its AST is first asked for; its constants must not land on meta."""
    code = """
from tome_audio.models import AST, to_huggingface
to_huggingface(AST(None, width=16, depth=1, n_heads=1, n_classes=2, n_frames=32))
import torchaudio.compliance.kaldi as kaldi
assert not kaldi.EPSILON.is_meta
"""
    subprocess.run([sys.executable, "-c", code], check=True)
