"""What a few-shot recipe says, as plain values: the groups of options of `tome-audio fewshot`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tome_audio.audio.front_end import Kind
from tome_audio.losses import Distance
from tome_audio.models.ast import Pool


@dataclass(frozen=True)
class ClassesConfig:
    """Which classes are trained on, validated on and tested on.

    Attributes:
        split: JSON file with lists of classes under train, val and test, as MetaAudio publishes them.
        n_valid: Without a file: classes to draw for validation.
        n_test: Without a file: classes to draw for testing. With 0 for both, all parts have the same classes, and the
            data's own splits say which clips are whose.
        seed: Of that draw.
    """

    split: str | None = None
    n_valid: int = 0
    n_test: int = 0
    seed: int = 0


@dataclass(frozen=True)
class EpisodesConfig:
    """Episodes to train on and to validate on.

    Attributes:
        n_way: Classes of an episode.
        k_shot: Clips of a class to learn from.
        n_query: Clips of a class to be asked.
        per_epoch: Episodes of an epoch; trainer.batch_size of them make a step.
        valid: Episodes to validate on after each epoch, always the same; 0 validates nothing.
        valid_n_way: Of those; none takes n_way.
        valid_k_shot: Of those; none takes k_shot.
        valid_n_query: Of those; none takes n_query.

    Raises:
        ValueError: No episodes to train on, or fewer than none to validate on.
    """

    n_way: int = 5
    k_shot: int = 5
    n_query: int = 5
    per_epoch: int = 100
    valid: int = 100
    valid_n_way: int | None = None
    valid_k_shot: int | None = None
    valid_n_query: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("per_epoch", 1), ("valid", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"episodes.{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ReadingConfig:
    """How clips are read.

    Attributes:
        check: Decode every clip before anything else.
        skip_unusable: Go on without clips that cannot be used, saying how many; otherwise they stop the run.
    """

    check: bool = True
    skip_unusable: bool = False


@dataclass(frozen=True)
class AudioConfig(ReadingConfig):
    """How clips are read, and the encoder's input.

    Attributes:
        front_end: log-mel (MetaAudio's, 32 ms a frame) or fbank (AST's, 10 ms a frame). Long clips are cut,
            short ones repeated, or padded for fbank.
        n_frames: Frames; 157 of log-mel are 5 s.
        n_mels: Mel bins.
        mean: Of the training features; none measures it.
        std: Of the training features; none measures it.
        legacy_repeat: Stretch short clips by repeating every sample, as MetaAudio does, instead of tiling them.
        in_memory: Keep features and waveforms in memory.
        cache: Folder for features; none computes them anew.
    """

    front_end: Kind = "log-mel"
    n_frames: int = 157
    n_mels: int = 128
    mean: float | None = None
    std: float | None = None
    legacy_repeat: bool = False
    in_memory: bool = False
    cache: str | None = None


@dataclass(frozen=True)
class EncoderConfig:
    """What embeds a clip.

    Attributes:
        kind: cnn (four blocks of 64 channels), crnn (the same with a recurrent layer: MetaAudio's hybrid), ast, or
            timm (a convolutional network of timm).
        dropout: Before the last layer of cnn and crnn.
        pool: Mel bins and frames of each pooling of cnn and crnn.
        variant: Size of an AST: tiny224, small224, base224, base384; none takes width, depth and n_heads.
        width: Channels of an AST, without variant.
        depth: Blocks of an AST, without variant.
        n_heads: Attention heads of an AST, without variant; none takes one per 64 channels.
        fstride: Mel bins between patches.
        tstride: Frames between patches.
        patch: Mel bins and frames of a patch.
        drop_path: Stochastic depth of the last block.
        tokens: What an AST's embedding is: prefix (class and distillation token), token (the class token) or avg (the
            mean of the patches).
        timm_name: The network of timm.
        start: Start from a checkpoint of ours of the same size, an official AST (.pth) or a Hugging Face AST.
        freeze: Train what is on top of the encoder alone; every clip is then embedded once.
    """

    kind: Literal["cnn", "crnn", "ast", "timm"] = "crnn"
    dropout: float = 0.3
    pool: tuple[int, int] = (3, 3)
    variant: str | None = None
    width: int | None = None
    depth: int | None = None
    n_heads: int | None = None
    fstride: int = 10
    tstride: int = 10
    patch: tuple[int, int] = (16, 16)
    drop_path: float = 0.0
    tokens: Pool = "avg"
    timm_name: str = "resnet10t"
    start: str | None = None
    freeze: bool = False


@dataclass(frozen=True)
class HeadConfig:
    """What is on top of the encoder, and how queries are compared with prototypes.

    Attributes:
        distance: squared, euclidean (un-squared) or cosine.
        temperature: What distances are divided by.
        fusion: Let the views of a clip attend to each other and join them; otherwise each is a further clip.
        projection: Hidden and output size of a projection for the contrastive loss; none has none.
        project_prototypes: Whether prototypes go through the projection too.
        relation: Compare by a small network (Sung et al., 2018) instead of a distance.
    """

    distance: Distance = "squared"
    temperature: float = 1.0
    fusion: bool = False
    projection: tuple[int, int] | None = None
    project_prototypes: bool = True
    relation: bool = False


@dataclass(frozen=True)
class ContrastiveConfig:
    """A second loss beside that of the episode.

    Attributes:
        kind: none, cpl (contrastive prototypical) or apl (angular prototypical).
        weight: l_param: what it is multiplied with.
        temperature: Of cpl, T.
        n_negatives: Of cpl, M: queries of each other class.
        angle: Of apl, in degrees.
        prototypes_as_anchors: Of apl: prototypes are the anchors, queries positives and negatives.
        legacy: Do as the reference implementation: divide cpl by the queries once more; use 40 degrees in apl and the
            angle to choose pairs alone.
    """

    kind: Literal["none", "cpl", "apl"] = "none"
    weight: float = 1.0
    temperature: float = 1.0
    n_negatives: int = 3
    angle: float = 40.0
    prototypes_as_anchors: bool = True
    legacy: bool = False


@dataclass(frozen=True)
class ViewsConfig:
    """Augmented views of clips.

    Attributes:
        kind: none, spec (time warp, time mask and frequency mask, one view each) or waveform (audiomentations).
        mask_param: Of spec: widest mask, in frames and in mel bins.
        p: Of spec: largest part of the frames that a time mask may cover.
        num_mask: Of spec: masks of a view.
        warp: Of spec: W, the farthest that time is warped, in frames.
        mask_value: Of spec: what masks are filled with; 0 is the mean.
        shared: Of spec: the clips of an episode share their masks; otherwise each has its own.
        aug_num: Of waveform: augmented views of a clip.
        data: Of waveform: whose spectrum sets the bounds of the filters and of the noise: fsd, nsynth, esc50 or
            birdclef; none measures it on the training clips.
        reversal: Of waveform: probability of playing a clip backwards.
        stretch: Of waveform: probability of a change of tempo.
        train_support: Whether clips to learn from have views in training.
        train_query: Whether clips to be asked have them in training.
        test_support: Whether clips to learn from have them in validation and test.
        test_query: Whether clips to be asked have them in validation and test.
    """

    kind: Literal["none", "spec", "waveform"] = "none"
    mask_param: int = 8
    p: float = 0.3
    num_mask: int = 1
    warp: int = 20
    mask_value: float = 0.0
    shared: bool = True
    aug_num: int = 3
    data: Literal["fsd", "nsynth", "esc50", "birdclef"] | None = None
    reversal: float = 0.0
    stretch: float = 0.0
    train_support: bool = True
    train_query: bool = False
    test_support: bool = True
    test_query: bool = False

    @property
    def n_views(self) -> int:
        """Views of a clip with the clip itself."""
        return {"none": 1, "spec": 4, "waveform": 1 + self.aug_num}[self.kind]
