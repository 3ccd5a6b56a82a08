"""From the options of `tome-audio sampleid train` to an encoder."""

from __future__ import annotations

from typing import Any

from tome_audio.cli.fewshot.build import encoder_from_elsewhere
from tome_audio.cli.sampleid.config import SongEncoderConfig
from tome_audio.models import CheckpointError, SongEncoder, load_checkpoint


def build_encoder(options: SongEncoderConfig, *, n_mels: int, n_frames: int) -> SongEncoder:
    """Build an encoder for windows (n_frames, n_mels), with the weights it starts from.

    Raises:
        ValueError: Sizes that do not fit together, or nothing is left to train.
        CheckpointError: The weights to start from cannot be read, or do not fit.
    """
    names = ("variant", "width", "depth", "n_heads", "fstride", "tstride", "drop_path")
    args: dict[str, Any] = {name: getattr(options, name) for name in names}
    args |= {"n_mels": n_mels, "n_frames": n_frames, "patch": list(options.patch), "pool": "avg"}
    start = options.start
    if options.freeze and start is None:
        raise ValueError("encoder.freeze keeps an encoder that was trained before: say which with encoder.start")
    if start is not None and not start.endswith(".safetensors"):
        args, weights = encoder_from_elsewhere(start, args)
        network = SongEncoder(args, options.n_dims)
        network.encoder.load_state_dict(weights)
    else:
        network = SongEncoder(args, options.n_dims)
        if start is not None:
            _start_from(network, start)
    if options.freeze:
        network.encoder.requires_grad_(False)
    return network


def _start_from(network: SongEncoder, path: str) -> None:
    source, _ = load_checkpoint(path)
    if not isinstance(source, SongEncoder):
        raise CheckpointError(f"{path} holds a {type(source).__name__}: start from `tome-audio sampleid train`'s own")
    given, own = source.state_dict(), network.state_dict()
    differ = sorted(name for name in own if name not in given or given[name].shape != own[name].shape)
    if differ:
        raise CheckpointError(
            f"{path} does not fit the encoder to be trained ({differ[0]} and {len(differ) - 1} others differ): take "
            "the size and the windows that it was trained with"
        )
    network.load_state_dict(given)
