"""What a recipe of sample identification says: the groups of options of `tome-audio sampleid train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MaterialConfig:
    """The songs that mixes are made of.

    Attributes:
        cache: Folder for spectrograms; none computes them anew.
        skip_unusable: Go on without songs that cannot be used, saying how many; otherwise they stop the run.
        rounds: Windows of every song in an epoch.
        window: Length of a window, in seconds.
        hop: Seconds from one window of the index to the next; half of it is the farthest offset in training.
        temperature: What cosines are divided by in the contrastive loss.
        keep: The weights that validated best, or the last ones: few songs to validate on tell epochs apart poorly.
    """

    cache: str | None = None
    skip_unusable: bool = False
    rounds: int = 4
    window: float = 5.0
    hop: float = 2.5
    temperature: float = 0.07
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window:
            raise ValueError(f"hop must be positive and at most the window of {self.window} s, got {self.hop}")


@dataclass(frozen=True)
class SongEncoderConfig:
    """What embeds a window.

    Attributes:
        n_dims: Size of embeddings.
        variant: Size of the AST: tiny224, small224, base224, base384; none takes width, depth and n_heads.
        width: Channels, without variant.
        depth: Blocks, without variant.
        n_heads: Attention heads, without variant; none takes one per 64 channels.
        patch: Bins and frames of a patch.
        fstride: Bins between patches.
        tstride: Frames between patches.
        drop_path: Stochastic depth of the last block.
        start: Start from a checkpoint of `tome-audio sampleid train` of the same size, or from an AudioSet AST (.pth or
            Hugging Face), whose size and patches it then takes.
        freeze: Train the projection alone.
    """

    n_dims: int = 128
    variant: str | None = None
    width: int | None = 128
    depth: int | None = 4
    n_heads: int | None = None
    patch: tuple[int, int] = (16, 8)
    fstride: int = 16
    tstride: int = 8
    drop_path: float = 0.0
    start: str | None = None
    freeze: bool = False
