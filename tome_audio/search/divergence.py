"""How far the answers of a merged model are from those of the same model unmerged."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tome_audio.merge import Schedule
from tome_audio.patch.model import set_r


def divergence(base: Tensor, merged: Tensor, *, multi_label: bool = False) -> Tensor:
    """Return the Kullback-Leibler divergence of merged from unmerged answers, (B,) in nats, float64.

    Args:
        base: logits of the unmerged model, (B, K).
        merged: logits of the merged model, (B, K).
        multi_label: each class is a yes or no of its own, and the divergences of the K classes are added up.
    """
    base, merged = base.double(), merged.double()
    if not multi_label:
        return F.kl_div(merged.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    yes = base.sigmoid() * (F.logsigmoid(base) - F.logsigmoid(merged))
    no = (-base).sigmoid() * (F.logsigmoid(-base) - F.logsigmoid(-merged))
    return (yes + no).sum(-1)


class Score(NamedTuple):
    """What a schedule does to some clips: the mean divergence, and the mean of its square root.

    The search goes by the root. The divergence itself is the sum of a few clips that the model is unsure of, and says
    more about which clips were drawn than about the schedule.
    """

    root: float
    divergence: float


class Judge:
    """Scores schedules on parts of the clips, by their divergence from the unmerged answers.

    Args:
        model: patched, in eval mode; its r is changed.
        parts: inputs of the model, one tensor (B, ...) per part.
        batch_size: clips per forward pass, at most.
        multi_label: see `divergence`.
    """

    def __init__(self, model: nn.Module, parts: list[Tensor], batch_size: int, multi_label: bool) -> None:
        self.model = model
        self.batches = [part.split(batch_size) for part in parts]
        self.multi_label = multi_label
        set_r(model, 0)
        self.base = [[self._answer(batch) for batch in batches] for batches in self.batches]
        if not all(answer.isfinite().all() for answers in self.base for answer in answers):
            raise ValueError("the unmerged model answers with NaN or infinity on these clips: there is nothing to fit")

    def summary(self) -> list[float]:
        """Return the mean unmerged logit of each class: another model, or other clips, give other numbers."""
        return torch.cat([answer for answers in self.base for answer in answers]).double().mean(0).tolist()

    def score(self, schedule: Schedule, part: int) -> Score:
        """Score the schedule on the clips of one part."""
        set_r(self.model, schedule)
        found = [
            divergence(base, self._answer(batch), multi_label=self.multi_label)
            for base, batch in zip(self.base[part], self.batches[part], strict=True)
        ]
        clips = torch.cat(found).clamp(min=0.0)  # rounding may take it below
        return Score(clips.sqrt().mean().item(), clips.mean().item())

    @torch.inference_mode()
    def _answer(self, batch: Tensor) -> Tensor:
        output: Any = self.model(batch)
        return getattr(output, "logits", output)
