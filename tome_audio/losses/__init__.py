"""Training losses as pure functions of tensors."""

from tome_audio.losses.distillation import DistillationLoss, distillation_loss, hard_loss, soft_loss, soften

__all__ = ["DistillationLoss", "distillation_loss", "hard_loss", "soft_loss", "soften"]
