"""Training losses as pure functions of tensors."""

from tome_audio.losses.angular import angular_prototypical_loss
from tome_audio.losses.contrastive import contrastive_prototypical_loss, draw_negatives
from tome_audio.losses.distillation import DistillationLoss, distillation_loss, hard_loss, soft_loss, soften
from tome_audio.losses.info_nce import info_nce
from tome_audio.losses.prototypical import (
    Distance,
    cl2n,
    class_prototypes,
    pairwise_distances,
    prototypical_logits,
    prototypical_loss,
)
from tome_audio.losses.relation import relation_loss

__all__ = [
    "Distance",
    "DistillationLoss",
    "angular_prototypical_loss",
    "cl2n",
    "class_prototypes",
    "contrastive_prototypical_loss",
    "distillation_loss",
    "draw_negatives",
    "hard_loss",
    "info_nce",
    "pairwise_distances",
    "prototypical_logits",
    "prototypical_loss",
    "relation_loss",
    "soft_loss",
    "soften",
]
