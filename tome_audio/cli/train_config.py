"""What a training recipe says, as plain values: the groups of options of `tome-audio train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tome_audio.models.ast import Pool
from tome_audio.patch.config import Matching, Metric


@dataclass(frozen=True)
class ClipsConfig:
    """Which clips are trained on, and how they are read.

    Attributes:
        label_csv: Order of the classes; none takes that of the data.
        multi_label: Clips have any number of labels.
        valid_data: Another manifest or AST datafile, all of whose clips are validated on; none takes split valid.
        valid_part: Part of every class in train to validate on, where the data has no valid split; 0 sets none apart.
        valid_by: What clips that stay together share: source, speaker or id.
        check: Decode every clip before training starts.
        skip_unusable: Go on without clips that cannot be used, saying how many; otherwise they stop the run.
        balanced: Draw clips with replacement so that rare classes are seen as often (AudioSet).
        in_memory: Keep decoded audio in memory; for small data sets.
        cache: Folder for filter banks of clips that are not mixed; none computes them every time.
    """

    label_csv: str | None = None
    multi_label: bool = False
    valid_data: str | None = None
    valid_part: float = 0.1
    valid_by: Literal["source", "speaker", "id"] = "source"
    check: bool = True
    skip_unusable: bool = False
    balanced: bool = False
    in_memory: bool = False
    cache: str | None = None


@dataclass(frozen=True)
class FeatureConfig:
    """The model's input: log-mel frames of 10 ms, normalised as (x - mean) / (2 std).

    Attributes:
        n_frames: Frames; longer clips are cut, shorter ones padded.
        n_mels: Mel bins.
        mean: Of the training set's features; none measures it.
        std: Of the training set's features; none measures it.
    """

    n_frames: int = 128
    n_mels: int = 128
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class ModelConfig:
    """What is trained.

    Attributes:
        kind: ast, cnn (a network of timm) or two-layer-cnn.
        variant: Size of an AST: tiny224, small224, base224, base384; none takes width, depth and n_heads.
        width: Channels, without variant.
        depth: Blocks, without variant.
        n_heads: Attention heads, without variant; none takes one per 64 channels.
        fstride: Mel bins between patches.
        tstride: Frames between patches.
        patch: Mel bins and frames of a patch.
        drop_path: Stochastic depth of the last block.
        pool: What the head of an AST reads: prefix (class and distillation token, as published), token (the class
            token alone) or avg (the mean of the patches).
        timm_name: The cnn.
        drop_rate: Dropout before the last layer of the cnn.
        imagenet: Start from timm's ImageNet weights; fetches them.
        start: Start from a checkpoint: ours of the same size (.safetensors), or the official AudioSet AST (.pth).
    """

    kind: Literal["ast", "cnn", "two-layer-cnn"] = "ast"
    variant: str | None = None
    width: int | None = None
    depth: int | None = None
    n_heads: int | None = None
    fstride: int = 10
    tstride: int = 10
    patch: tuple[int, int] = (16, 16)
    drop_path: float = 0.0
    pool: Pool = "prefix"
    timm_name: str = "efficientnet_b0"
    drop_rate: float = 0.0
    imagenet: bool = False
    start: str | None = None


@dataclass(frozen=True)
class LossConfig:
    """What is minimised, and which figure picks the best epoch.

    Attributes:
        binary: Binary cross-entropy for each class instead of cross-entropy.
        label_smoothing: Part of the labels that is spread over all classes.
        best: accuracy, macro_f1, mean_ap (several labels) or loss.
    """

    binary: bool = False
    label_smoothing: float = 0.0
    best: Literal["accuracy", "macro_f1", "mean_ap", "loss"] = "accuracy"


@dataclass(frozen=True)
class DistillConfig:
    """A teacher beside the labels: weight * labels + (1 - weight) * teacher.

    Attributes:
        weight: Lambda; 1 is no distillation, whatever else is said here.
        temperature: What both sides are divided by in the teacher's part.
        logits: Folder that `tome-audio teacher-logits` has written.
        model: A checkpoint that answers while the student trains, instead of logits.
        precision: Of that checkpoint's forward pass: fp32 or bf16; none computes it as the student's.
        itself: The teacher is the student's own unmerged answer; needs merging.
    """

    weight: float = 1.0
    temperature: float = 1.0
    logits: str | None = None
    model: str | None = None
    precision: Literal["fp32", "bf16"] | None = None
    itself: bool = False


@dataclass(frozen=True)
class MergingConfig:
    """Merging while training.

    Attributes:
        r: As in --r of other commands: 8, [20,10,5], (8,-1), 2x. Of several, 0,4,8, each step draws one.
        between: Each step draws r for all blocks from these two numbers and what lies between.
        targets_between: Each step draws a compute target from these two, in steps of 0.1.
        evaluate: r of validation; 0 is the unmerged model.
        metric: What similarity is measured on.
        matching: Which tokens may merge in the blocks.
        rounds: Matchings that share what a block merges.
    """

    r: str | None = None
    between: tuple[int, int] | None = None
    targets_between: tuple[float, float] | None = None
    evaluate: str = "0"
    metric: Metric = "key"
    matching: Matching = "bipartite"
    rounds: int = 1

    @property
    def is_on(self) -> bool:
        """Whether the model is patched."""
        return (self.r, self.between, self.targets_between) != (None, None, None)
