"""Audio models: those that tokens can be merged in, networks that teach them, and their checkpoints."""

# ruff: noqa: E402
from tome_audio.installation import import_matched

import_matched("timm", "tome_audio.models")  # first, for its one-sentence error where torchvision does not fit torch

from tome_audio.models.ast import AST, VARIANTS
from tome_audio.models.checkpoints import (
    MODEL_CLASSES,
    CheckpointMetadata,
    load_checkpoint,
    save_checkpoint,
)
from tome_audio.models.cnn import TEACHERS, SpectrogramCNN, TwoLayerCNN
from tome_audio.models.few_shot import ENCODERS, FewShotHead, FewShotNetwork
from tome_audio.models.few_shot_encoders import CRNN, ConvEncoder
from tome_audio.models.few_shot_heads import ProjectionHead, RelationHead, ViewFusion
from tome_audio.models.huggingface import from_huggingface, to_huggingface
from tome_audio.models.kwt import KWT, KWTAttention, KWTBlock
from tome_audio.models.kwt_checkpoint import load_kwt
from tome_audio.models.kwt_frontend import KWTFrontend
from tome_audio.models.official import load_official
from tome_audio.models.song_encoder import SongEncoder
from tome_audio.models.strict import CheckpointError

__all__ = [
    "AST",
    "CRNN",
    "ENCODERS",
    "KWT",
    "MODEL_CLASSES",
    "TEACHERS",
    "VARIANTS",
    "CheckpointError",
    "CheckpointMetadata",
    "ConvEncoder",
    "FewShotHead",
    "FewShotNetwork",
    "KWTAttention",
    "KWTBlock",
    "KWTFrontend",
    "ProjectionHead",
    "RelationHead",
    "SongEncoder",
    "SpectrogramCNN",
    "TwoLayerCNN",
    "ViewFusion",
    "from_huggingface",
    "load_checkpoint",
    "load_kwt",
    "load_official",
    "save_checkpoint",
    "to_huggingface",
]
