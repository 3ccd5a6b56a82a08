"""Convolutional networks on spectrograms: teachers on timm, and the small baseline of ESC-50."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F

from tome_audio.models.strict import CheckpointError

TEACHERS = ("efficientnet_b0", "efficientnet_b2", "mobilenetv3_large_100", "resnet10t")
"""timm models that are tried as teachers; any other convolutional one of timm can be named as well."""


class SpectrogramCNN(nn.Module):
    """A convolutional network of timm on spectrograms (B, T frames, F mel bins): what AST reads, with logits out.

    Args:
        timm_name: Such as "efficientnet_b0", "efficientnet_b2", "mobilenetv3_large_100".
        n_classes: Outputs; with 0 they are embeddings (B, C).
        n_mels: Mel bins of the input.
        n_frames: Frames of the input (10 ms each with the usual features).
        drop_rate: Dropout before the last layer, training only.
        labels: Class names in output order, kept as `labels` and saved with checkpoints.
        pretrained: Start from timm's ImageNet weights (downloads them). The three input channels are summed to one.

    Raises:
        ValueError: No convolutional network of timm, or sizes that do not fit together.
        CheckpointError: The ImageNet weights cannot be fetched, or timm has none for this network.
    """

    def __init__(
        self,
        timm_name: str = "efficientnet_b0",
        *,
        n_classes: int = 527,
        n_mels: int = 128,
        n_frames: int = 1024,
        drop_rate: float = 0.0,
        labels: Sequence[str] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.labels = _checked_labels(labels, n_classes)
        self.n_classes, self.n_mels, self.n_frames = n_classes, n_mels, n_frames
        self.init_args: dict[str, Any] = {
            "timm_name": timm_name, "n_classes": n_classes, "n_mels": n_mels, "n_frames": n_frames,
            "drop_rate": drop_rate,
        }  # fmt: skip
        self.net = _timm_network(timm_name, n_classes, drop_rate, pretrained)
        keep_channels_last(self)

    @property
    def out_dim(self) -> int:
        """Channels C of embeddings, where n_classes is 0."""
        net: Any = self.net
        return int(getattr(net, "head_hidden_size", net.num_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn spectrograms (B, T frames, F mel bins) into logits (B, n_classes).

        Raises:
            ValueError: The input is not (B, n_frames, n_mels).
        """
        check_input(self, x)
        return self.net(x.unsqueeze(1).transpose(2, 3))


class TwoLayerCNN(nn.Module):
    """The small baseline of ESC-50: 5x5 convolutions of 6 channels, three poolings, three linear layers.

    One convolution from 1 to 6 channels, then one from 6 to 6 that runs twice with the same weights, each followed by
    ReLU and 2x2 max pooling; then linear layers of 120, 84 and `n_classes`. 498 frames of 128 bins leave 4176 numbers.

    Args:
        n_classes: Outputs.
        n_mels: Mel bins of the input, at least 36.
        n_frames: Frames of the input, at least 36.
        labels: Class names in output order, kept as `labels` and saved with checkpoints.

    Raises:
        ValueError: An input too small for three convolutions and poolings, or not one label per class.
    """

    def __init__(
        self, *, n_classes: int = 50, n_mels: int = 128, n_frames: int = 498, labels: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.labels = _checked_labels(labels, n_classes)
        if min(n_mels, n_frames) < 36:
            raise ValueError(
                f"three 5x5 convolutions and poolings need 36 bins and frames, got {n_mels} and {n_frames}"
            )
        self.n_classes, self.n_mels, self.n_frames = n_classes, n_mels, n_frames
        self.init_args: dict[str, Any] = {"n_classes": n_classes, "n_mels": n_mels, "n_frames": n_frames}
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 6, 5)
        sides = n_frames, n_mels
        for _ in range(3):
            sides = (sides[0] - 4) // 2, (sides[1] - 4) // 2
        self.head = nn.Sequential(
            nn.Linear(6 * sides[0] * sides[1], 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, n_classes)
        )
        keep_channels_last(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn spectrograms (B, T frames, F mel bins) into logits (B, n_classes).

        Raises:
            ValueError: The input is not (B, n_frames, n_mels).
        """
        check_input(self, x)
        x = x.unsqueeze(1)
        for layer in (self.conv1, self.conv2, self.conv2):
            x = F.max_pool2d(layer(x).relu(), 2)
        return self.head(x.flatten(1))


def keep_channels_last(model: nn.Module) -> None:
    """Keep the weights of convolutions channels last, through loading too.

    So a CPU convolves about twice as fast, and a GPU in half precision too.
    """
    # Weights that are put in the place of the model's own bring their own format with them.
    _channels_last(model)
    model.register_load_state_dict_post_hook(_channels_last)


def _channels_last(model: Any, keys: object = None) -> None:
    model.to(memory_format=torch.channels_last)


def _checked_labels(labels: Sequence[str] | None, n_classes: int) -> tuple[str, ...] | None:
    if labels is not None and len(labels) != n_classes:
        raise ValueError(f"{len(labels)} labels given for n_classes={n_classes}; give one label per class")
    return None if labels is None else tuple(labels)


def check_input(model: nn.Module, x: torch.Tensor) -> None:
    """Raise where an input is not (B, n_frames, n_mels) of the model.

    Raises:
        ValueError: Another shape.
    """
    if x.ndim != 3 or x.shape[1] != model.n_frames or x.shape[2] != model.n_mels:
        raise ValueError(
            f"{type(model).__name__} was given an input of shape {tuple(x.shape)} and expects (batch, "
            f"{model.n_frames} frames, {model.n_mels} mel bins); pad or cut the features, or build the model with "
            "other n_frames and n_mels"
        )


def _timm_network(name: str, n_classes: int, drop_rate: float, pretrained: bool) -> nn.Module:
    if ":" in name or "/" in name or not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; teachers tried here are {', '.join(TEACHERS)}")
    options: dict[str, Any] = {"in_chans": 1, "num_classes": n_classes, "drop_rate": drop_rate}
    try:
        network = timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise ValueError(f"timm cannot build {name} for one input channel: {error}") from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"the ImageNet weights of {name} could not be fetched ({reason}): connect to the internet for the first "
            "run, or start from random weights with pretrained=False"
        ) from error
    if hasattr(network, "patch_embed"):
        raise ValueError(f"{name} is a transformer: name a convolutional network such as {', '.join(TEACHERS)}")
    return network
