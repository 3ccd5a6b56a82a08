from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from small_models import noise, randomise_
from torch.nn import functional as F

from tome_audio.models import CheckpointError, SpectrogramCNN, TwoLayerCNN, load_checkpoint, save_checkpoint
from tome_audio.models.cnn import TEACHERS
from tome_audio.patch import apply_patch
from tome_audio.patch.registry import UnsupportedModelError

SMALL = "mobilenetv3_small_050"


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers_read_what_ast_reads(name):
    model = SpectrogramCNN(name, n_classes=12, n_frames=98, n_mels=64).eval()
    x = noise(2, 98, 64)
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (2, 12) and logits.isfinite().all()
        # One channel, frequency by time, as AST's patches have it.
        assert torch.equal(logits, model.net(x.mT[:, None]))
        assert not torch.equal(logits, model.net(x[:, None]))


def test_the_size_is_that_of_timms_network():
    model = SpectrogramCNN("efficientnet_b0", n_classes=7)
    with torch.device("meta"):
        reference = timm.create_model("efficientnet_b0", num_classes=7)
    n_weights = [sum(p.numel() for p in m.parameters()) for m in (model, reference)]
    assert n_weights[0] == n_weights[1] - 2 * 32 * 3 * 3  # two of three input channels


def test_any_network_of_timm_learns_with_its_labels():
    model = SpectrogramCNN("resnet10t", n_classes=2, n_frames=40, n_mels=32, labels=["a", "b"], drop_rate=0.1)
    assert model.labels == ("a", "b")
    F.cross_entropy(model(noise(4, 40, 32)), torch.tensor([0, 1, 0, 1])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", [SMALL, "resnetblur18", "efficientnet_b0"])
def test_checkpoints_round_trip(tmp_path, name):
    model = SpectrogramCNN(name, n_classes=3, n_frames=64, n_mels=64, labels=["a", "b", "c"])
    model(noise(4, 64, 64, seed=3))  # the running means of the norms are part of the model
    model.eval()
    features = {"mean": -4.0, "std": 3.0, "n_frames": 64}
    before = torch.get_rng_state()
    loaded, facts = load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", model, features=features))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(loaded(noise(2, 64, 64)), model(noise(2, 64, 64)))
    assert (facts.model, facts.labels, facts.features) == ("SpectrogramCNN", ("a", "b", "c"), features)
    assert not loaded.training and not any(t.is_meta for t in (*loaded.parameters(), *loaded.buffers()))


def test_imagenet_weights_need_the_internet_and_say_so():
    with pytest.raises(
        CheckpointError, match=r"weights of mobilenetv3_large_100 could not be fetched .*pretrained=False"
    ):
        SpectrogramCNN("mobilenetv3_large_100", n_classes=3, pretrained=True)


def test_merging_tokens_in_a_network_without_tokens_is_refused():
    for model in (SpectrogramCNN(SMALL, n_classes=3), TwoLayerCNN()):
        with pytest.raises(UnsupportedModelError, match=f"{type(model).__name__} holds no encoder of a known family"):
            apply_patch(model)


def test_the_baseline_is_its_description():
    model = randomise_(TwoLayerCNN())
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(120, 4176), (84, 120), (50, 84)]
    x, state = noise(2, 498, 128), model.state_dict()
    y = x[:, None]
    for layer in ("conv1", "conv2", "conv2"):
        y = F.conv2d(y, state[f"{layer}.weight"], state[f"{layer}.bias"]).relu()
        y = torch.stack(
            [y[..., i::2, j::2][..., : y.shape[-2] // 2, : y.shape[-1] // 2] for i in (0, 1) for j in (0, 1)]
        )
        y = y.amax(0)
    y = y.flatten(1)
    for layer in ("head.0", "head.2", "head.4"):
        y = y @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        y = y.relu() if layer != "head.4" else y
    assert torch.allclose(model(x), y, rtol=1e-4, atol=1e-4)


def test_the_baseline_round_trips_and_goes_down_to_its_smallest_input(tmp_path):
    model = randomise_(TwoLayerCNN(n_classes=3, n_mels=36, n_frames=36, labels=["a", "b", "c"]))
    loaded, facts = load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", model))
    assert torch.equal(loaded(noise(2, 36, 36)), model(noise(2, 36, 36)))
    assert facts.model == "TwoLayerCNN" and loaded.labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SpectrogramCNN("efficientnet_b99"), "timm has no model 'efficientnet_b99'; .*efficientnet_b0"),
        (lambda: SpectrogramCNN("hf-hub:org/name"), "timm has no model"),
        (lambda: SpectrogramCNN("vit_tiny_patch16_224"), "vit_tiny_patch16_224 is a transformer"),
        (lambda: SpectrogramCNN(SMALL, n_classes=3, labels=["a"]), "1 labels given for n_classes=3"),
        (lambda: TwoLayerCNN(n_frames=35), "36 bins and frames, got 128 and 35"),
        (lambda: TwoLayerCNN(labels=["a"]), "1 labels given for n_classes=50"),
        (
            lambda: SpectrogramCNN(SMALL, n_frames=64)(noise(1, 128, 64)),
            r"shape \(1, 128, 64\) and expects .* 64 frames",
        ),
        (lambda: TwoLayerCNN()(noise(2, 1, 498, 128)), "TwoLayerCNN was given an input of shape"),
    ],
)
def test_bad_input_is_one_clear_error(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("build", [lambda: SpectrogramCNN(SMALL, n_classes=3, n_frames=64, n_mels=64), TwoLayerCNN])
def test_channels_stay_last_through_a_checkpoint_a_copy_and_a_pickle(build, tmp_path):
    """Twice as fast on a CPU, and lost without a word where loading puts other tensors in the place of the weights."""
    model = build()
    loaded, _ = load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", model))
    for one in (model, loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        kernels = [weights for weights in one.parameters() if weights.ndim == 4]
        assert kernels and all(weights.is_contiguous(memory_format=torch.channels_last) for weights in kernels)
