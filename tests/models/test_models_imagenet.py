from __future__ import annotations

import pytest
import timm
import torch
from small_models import noise, randomise_

from tome_audio.models import AST
from tome_audio.models.imagenet import convert_imagenet
from tome_audio.models.pos_embed import from_imagenet


@pytest.fixture(scope="module")
def deit():
    return randomise_(timm.create_model("deit_tiny_distilled_patch16_224")).state_dict()


def test_kernel_is_the_channel_sum_and_heads_are_gone(deit):
    weights = convert_imagenet(deit, (12, 12))
    kernel = deit["patch_embed.proj.weight"]
    torch.testing.assert_close(weights["patch_embed.proj.weight"][:, 0], kernel[:, 0] + kernel[:, 1] + kernel[:, 2])
    assert torch.equal(weights["patch_embed.proj.bias"], deit["patch_embed.proj.bias"])
    assert set(deit) - set(weights) == {f"{h}.{p}" for h in ("head", "head_dist") for p in ("weight", "bias")}


def test_every_weight_reaches_the_encoder(deit):
    model = AST("tiny224", n_classes=3, n_frames=128)
    model.load_imagenet(deit)
    ours = model.v.state_dict()
    for key, value in convert_imagenet(deit, model.grid).items():
        assert torch.equal(ours[key], value), key
    assert torch.equal(ours["pos_embed"], from_imagenet(deit["pos_embed"], (14, 14), (12, 12)))


def test_grey_picture_gives_the_features_of_the_colour_model(deit):
    picture_model = timm.create_model("deit_tiny_distilled_patch16_224").eval()
    picture_model.load_state_dict(deit)
    model = AST("tiny224", n_classes=3, fstride=16, tstride=16, n_mels=224, n_frames=224).eval()
    model.load_imagenet(deit)
    spectrogram = noise(1, 224, 224)
    picture = spectrogram.transpose(1, 2)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected, got = picture_model.forward_features(picture), model.forward_features(spectrogram)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_constructor_asks_timm_for_pretrained_weights(deit, monkeypatch):
    asked = []

    class Source:
        def state_dict(self):
            return deit

    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: asked.append((name, pretrained)) or Source())
    model = AST("tiny224", n_classes=3, n_frames=128, imagenet_pretrained=True)
    assert asked == [("deit_tiny_distilled_patch16_224", True)]
    assert torch.equal(model.v.cls_token, deit["cls_token"])
    assert "imagenet_pretrained" not in model.init_args


def test_wrong_weights_are_refused(deit):
    plain = {key: value for key, value in deit.items() if key != "dist_token"}
    with pytest.raises(ValueError, match="not the weights of a distilled DeiT: dist_token missing"):
        convert_imagenet(plain, (12, 12))
    with pytest.raises(ValueError, match=r"wrong shapes: cls_token is \(1, 1, 192\), needs \(1, 1, 384\)"):
        AST("small224", n_classes=3, n_frames=128).load_imagenet(deit)
    with pytest.raises(ValueError, match="needs a named variant"):
        AST(None, width=64, depth=1, imagenet_pretrained=True)
