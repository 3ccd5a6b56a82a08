"""What particular families need: pooling heads of timm, the read-out of AST, outputs and masks of Hugging Face."""

import numpy as np
import pytest
import timm
import torch
from fakes import CASES, logits

from tome_audio.models import AST
from tome_audio.patch import apply_patch, describe, remove_patch, trace

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def vit():
    return CASES["vit"].build().eval()


@pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")
def test_ast_reads_its_class_and_distillation_tokens_for_every_r():
    """Rows 0 and 1 are the prefix tokens after 12 merged layers: the bug of other AST patches."""
    model = AST(None, width=16, depth=12, n_heads=2, n_classes=3, n_frames=128).eval()
    assert model.n_tokens == 146
    apply_patch(model)
    x = torch.randn(2, 128, 128)
    for r in [*range(1, 73), [70, 30, 10], (24, -1.0)]:
        model.r = r
        with trace(model) as traces, torch.no_grad():
            tokens = model.forward_features(x)
            read = model.mlp_head((tokens[:, 0] + tokens[:, 1]) / 2)
            assert torch.allclose(model(x), read, atol=1e-6)
        assert len(traces[0].tokens) == 13
        for layer in range(12):
            members = traces[0].plan(layer).assign
            assert members[:, :2].tolist() == [[0, 1]] * 2, "a prefix token moved"
            assert (members[:, 2:] > 1).all(), "a patch merged into a prefix token"


def test_average_pooling_is_weighted_by_size():
    model = CASES["vit_avgpool"].build().eval()
    apply_patch(model, [2, 1, 2])
    outputs = []
    model.fc_norm.register_forward_pre_hook(lambda module, args: outputs.append(args[0]))
    model.norm.register_forward_hook(lambda module, args, output: outputs.append(output))
    with trace(model) as traces, torch.no_grad():
        model(IMAGE)
    tokens, pooled = outputs
    plan, sizes = traces[0].plan(), traces[0].sizes[-1]
    groups = torch.stack(
        [tokens[i][torch.stack([(plan.assign[i] == m).nonzero()[0, 0] for m in range(plan.n_out)])] for i in range(2)]
    )
    expected = (groups * sizes[..., None]).sum(1) / sizes.sum(1, keepdim=True)
    assert sizes.max() > 1 and torch.allclose(pooled, expected, atol=1e-5)


def test_forward_intermediates_needs_unmerged_tokens(vit):
    apply_patch(vit, 2)
    with pytest.raises(ValueError, match="unmerge=True"):
        vit.forward_intermediates(IMAGE)
    apply_patch(vit, 2, unmerge=True)
    final, maps = vit.forward_intermediates(IMAGE)
    assert [m.shape for m in maps] == [(2, 48, 4, 4)] * 3 and final.shape == (2, 17, 48)
    early = vit.forward_intermediates(IMAGE, indices=[0], intermediates_only=True, stop_early=True)
    assert torch.allclose(early[0], maps[0], atol=1e-6)


def test_pruned_models_report_what_they_run(vit):
    apply_patch(vit, (3, -1.0))
    vit.prune_intermediate_layers([1])
    with trace(vit) as traces:
        vit.forward_features(IMAGE)
    assert traces[0].tokens == list(describe(vit, 17).tokens) == [17, 11, 8]
    vit.blocks.append(torch.nn.Identity())
    with pytest.raises(ValueError, match="blocks were added or removed after apply_patch"):
        vit(IMAGE)


def test_a_new_head_that_pools_gets_every_token(vit):
    apply_patch(vit, [2, 1, 2])
    vit.reset_classifier(5, "avg")
    logits_then = vit(IMAGE)
    assert torch.allclose(apply_patch(vit, [2, 1, 2])(IMAGE), logits_then, atol=1e-6)
    assert vit.forward_features(IMAGE).shape[1] == 17


def test_a_schedule_of_zeros_merges_nothing(vit):
    apply_patch(vit, [0, 0, 0])
    final, maps = vit.forward_intermediates(IMAGE)
    assert len(maps) == 3 and final.shape[1] == 17


def test_unfused_attention_gives_the_same(vit):
    apply_patch(vit, [4, 3, 2])
    expected = vit(IMAGE)
    for block in vit.blocks:
        block.attn.fused_attn = False
    assert torch.allclose(vit(IMAGE), expected, atol=1e-5)


def test_huggingface_outputs_are_still_recorded():
    model = CASES["huggingface_eager"].build().eval()
    apply_patch(model, [2, 1, 2])
    out = model(torch.randn(1, 48, 32), output_hidden_states=True, output_attentions=True)
    assert [h.shape[1] for h in out.hidden_states][:3] == [10, 8, 7]
    assert [a.shape[-1] for a in out.attentions] == [10, 8, 7]


def test_huggingface_masks_are_padding():
    model = CASES["huggingface_sdpa"].build().eval()
    x, mask = torch.randn(1, 48, 32), torch.ones(1, 10)
    apply_patch(model)
    model(x, attention_mask=mask)
    model.r = 2
    assert torch.equal(model(x, attention_mask=mask).logits, model(x).logits)
    with pytest.raises(ValueError, match="say which tokens are no padding"):
        model(x, attention_mask=torch.zeros(1, 1, 10, 10))


def test_huggingface_attention_that_cannot_take_sizes_is_refused():
    model = CASES["huggingface_sdpa"].build().eval()
    apply_patch(model, 2)
    model.audio_spectrogram_transformer.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="'flash_attention_2' cannot weigh merged tokens"):
        model(torch.randn(1, 48, 32))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_inside_a_huggingface_pipeline(attention, tmp_path):
    from transformers import ASTFeatureExtractor, pipeline

    model = CASES[f"huggingface_{attention}"].build().eval()
    model.config.id2label = {i: f"sound {i}" for i in range(5)}
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=48)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    apply_patch(model, [2, 1, 2])
    classify = pipeline("audio-classification", model=model, feature_extractor=extractor)
    with trace(model) as traces:
        labels = classify(wave)
    assert traces[0].tokens == ([10, 8, 7, 7] if attention == "sdpa" else [10, 8, 7, 5])
    features = extractor(wave, sampling_rate=16000, return_tensors="pt")["input_values"]
    scores = logits(model(features))[0].softmax(-1)
    assert labels[0]["label"] == f"sound {scores.argmax()}"
    assert labels[0]["score"] == pytest.approx(scores.max().item(), abs=1e-5)
    model.save_pretrained(tmp_path)
    again = type(remove_patch(model)).from_pretrained(tmp_path)
    assert again.config.architectures == ["ASTForAudioClassification"]


def test_every_timm_distilled_ast_backbone_is_found():
    model = timm.create_model("deit_tiny_distilled_patch16_224", depth=2)
    apply_patch(model, 20)
    with trace(model) as traces, torch.no_grad():
        model.eval()(torch.randn(1, 3, 224, 224))
    assert traces[0].n_prefix == 2 and traces[0].tokens == [198, 178, 178]
