"""Embeddings against all others of the batch, with any number of positives each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tome_audio.losses.inputs import check_temperature, full_precision, wide


def info_nce(anchors: Tensor, candidates: Tensor, positives: Tensor, *, temperature: float) -> Tensor:
    """Return how well anchors tell their positives from all other candidates, averaged over positives, then anchors.

    With z_a an anchor and P(a) its positives, -1 / |P(a)| * sum over p in P(a) of
    log(e^(cos(z_a, z_p) / T) / sum over all c of e^(cos(z_a, z_c) / T)): InfoNCE (van den Oord et al., 2018, arXiv
    1807.03748) with several positives as in SupCon (Khosla et al., 2020, arXiv 2004.11362, equation 2).

    Args:
        anchors: Embeddings (A, D).
        candidates: Embeddings (C, D), positives and negatives of all anchors; an anchor itself is not to be among them.
        positives: Which candidates (A, C) are an anchor's positives, bool; each has one at least.
        temperature: T, what cosines are divided by.

    Raises:
        ValueError: Wrong shapes or dtypes, an anchor without a positive, or a temperature out of range.
    """
    check_temperature(temperature)
    fit = anchors.ndim == candidates.ndim == 2 and anchors.shape[1] == candidates.shape[1] and anchors.numel() > 0
    if not fit or not (anchors.is_floating_point() and candidates.is_floating_point()):
        raise ValueError(
            f"anchors and candidates must be floating-point (A, D) and (C, D), got {anchors.dtype} of shape "
            f"{tuple(anchors.shape)} and {candidates.dtype} of shape {tuple(candidates.shape)}"
        )
    if positives.shape != (len(anchors), len(candidates)) or positives.dtype != torch.bool:
        raise ValueError(
            f"positives must be bool of shape {(len(anchors), len(candidates))}, got {positives.dtype} of shape "
            f"{tuple(positives.shape)}"
        )
    counts = positives.sum(1)
    if not bool(counts.all()):
        raise ValueError(f"anchor {int((counts == 0).nonzero()[0])} has no positive: every anchor needs one")
    with full_precision(anchors):
        logits = F.normalize(wide(anchors), dim=-1) @ F.normalize(wide(candidates), dim=-1).mT / temperature
    likelihood = logits.log_softmax(1).masked_fill(~positives, 0.0).sum(1) / counts
    return -likelihood.mean()
