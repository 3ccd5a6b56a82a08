"""Scores of sample identification: the ranking of all references, whether a song has a sample, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from tome_audio.installation import import_extra

HITS_AT = (1, 3, 10)
RESAMPLES = 2000
_NEEDED_TPR = 95  # percent
_ONE_GROUP = Callable[[Tensor], Tensor]


class Interval(NamedTuple):
    """A figure and its bootstrap 95 % interval, whose ends are NaN where a single value cannot be resampled."""

    value: float
    low: float
    high: float


class _Figures:
    """What all scores here have in common: intervals as plain figures."""

    def figures(self) -> dict[str, float]:
        """Return every figure by name, with the ends of its interval as NAME_low and NAME_high."""
        found: dict[str, float] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Interval):
                found |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        return found


@dataclass(frozen=True)
class RetrievalScores(_Figures):
    """How well Q songs rank R references.

    Attributes:
        mean_ap: Mean over songs of the average precision over all R references.
        hit_rate_1: Part of the songs with a record that they sample in the first place.
        hit_rate_3: The same among the first three.
        hit_rate_10: The same among the first ten.
        median_rank: Median over songs of the place of the first record that is sampled, over R.
        mean_rank: The mean of the same.
        average_precision: (Q,), in float64.
        best_place: (Q,), from 1 on, int64.
    """

    mean_ap: Interval
    hit_rate_1: Interval
    hit_rate_3: Interval
    hit_rate_10: Interval
    median_rank: Interval
    mean_rank: Interval
    average_precision: Tensor
    best_place: Tensor


@dataclass(frozen=True)
class PresenceScores(_Figures):
    """How well the best score of a song tells songs with a sample from songs without.

    Attributes:
        auroc: Area under the ROC curve.
        fpr_at_95_tpr: Part of the songs without a sample that are taken for songs with one at the largest threshold
            which finds 95 % of those.
    """

    auroc: Interval
    fpr_at_95_tpr: Interval


@dataclass(frozen=True)
class LocalisationScores(_Figures):
    """Part of the hits whose place is right, NaN where there is no hit.

    Attributes:
        localised: In the song and in the record, by one and the same occurrence.
        localised_song: In the song.
        localised_original: In the record.
        n_hits: Number of hits.
    """

    localised: Interval
    localised_song: Interval
    localised_original: Interval
    n_hits: int


def places(scores: Tensor, relevant: Tensor) -> Tensor:
    """Return the place of every reference in the ranking of its song (Q, R), int64, 1 being the first.

    Of references with equal scores those that are not sampled come first, so that a constant score gains nothing.

    Args:
        scores: (Q, R), larger is surer; minus infinity is allowed.
        relevant: (Q, R), bool: which references the song samples.

    Raises:
        ValueError: Wrong shapes or dtypes, or NaN scores.
    """
    if scores.ndim != 2 or 0 in scores.shape or not scores.is_floating_point() or scores.shape != relevant.shape:
        raise ValueError(
            f"scores must be floating-point (songs, references) with one truth each, got {scores.dtype} of shape "
            f"{tuple(scores.shape)} and {tuple(relevant.shape)}"
        )
    if relevant.dtype != torch.bool:
        raise ValueError(f"relevant must say True or False of each reference, got {relevant.dtype}")
    if bool(scores.isnan().any()):
        raise ValueError("scores hold NaN: the embeddings are not usable")
    order = relevant.byte().argsort(dim=1, stable=True)
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    counted = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, counted)


def retrieval_scores(scores: Tensor, relevant: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> RetrievalScores:
    """Score full rankings, distractors included; intervals are over songs.

    Args:
        scores: (Q, R), larger is surer; minus infinity is allowed.
        relevant: (Q, R), bool: which references the song samples, at least one for every song.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: Wrong shapes or dtypes, NaN scores, or a song that samples none of the references.
        ImportError: torchmetrics is absent.
    """
    place = places(scores, relevant).cpu()
    truth = relevant.cpu()
    if not bool(truth.any(1).all()):
        without = (~truth.any(1)).nonzero()[:, 0].tolist()
        raise ValueError(f"songs {', '.join(map(str, without[:5]))} sample none of the references: leave them out")
    retrieval = import_extra("torchmetrics.functional.retrieval", "scoring of rankings", "sampleid")
    n_references = place.shape[1]
    # Places, not scores, go in: torchmetrics leaves references out whose score is not positive.
    answers = (n_references + 1 - place).double()
    precision = torch.stack(
        [retrieval.retrieval_average_precision(own, is_it) for own, is_it in zip(answers, truth, strict=True)]
    ).double()
    best = place.masked_fill(~truth, n_references + 1).amin(1)

    def interval(values: Tensor, statistic: _ONE_GROUP = _mean) -> Interval:
        return with_interval(statistic, values, resamples=resamples, seed=seed)

    hits = {f"hit_rate_{k}": interval((best <= k).double()) for k in HITS_AT}
    rank = best.double() / n_references
    return RetrievalScores(
        interval(precision), **hits, median_rank=interval(rank, _median), mean_rank=interval(rank),
        average_precision=precision, best_place=best,
    )  # fmt: skip


def presence_scores(
    with_sample: Tensor, without: Tensor, *, resamples: int = RESAMPLES, seed: int = 0
) -> PresenceScores:
    """Score how well songs with a sample are told from songs without; both kinds are resampled on their own.

    Args:
        with_sample: (P,), the best score of each song that has a sample.
        without: (N,), the best score of each song that has none.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: Wrong shapes or dtypes, no song of a kind, or NaN.
        ImportError: torchmetrics is absent.
    """
    for name, values in (("with_sample", with_sample), ("without", without)):
        if values.ndim != 1 or len(values) == 0 or not values.is_floating_point() or bool(values.isnan().any()):
            raise ValueError(
                f"{name} must be the scores of at least one song (n,), none of them NaN; got {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
    classification = import_extra("torchmetrics.functional.classification", "scoring of songs without", "sampleid")
    found, missing = with_sample.detach().cpu().double(), without.detach().cpu().double()
    # Ranks in (0, 1) keep what is equal equal; torchmetrics would put scores outside [0, 1] through a sigmoid.
    ranks = torch.cat([found, missing]).unique(return_inverse=True)[1].double()
    truth = torch.arange(len(ranks)) < len(found)
    area = float(classification.binary_auroc((ranks + 1) / (ranks.max() + 2), truth.long()))
    _, *ends = with_interval(_areas, found, missing, resamples=resamples, seed=seed)
    fpr = with_interval(_false_positives, found, missing, resamples=resamples, seed=seed)
    return PresenceScores(Interval(area, *ends), fpr)


def localisation_scores(
    estimated: Tensor, true: Sequence[Tensor], *, within: float = 5.0, resamples: int = RESAMPLES, seed: int = 0
) -> LocalisationScores:
    """Score where correct hits say that the sample is; of several occurrences the nearest counts.

    Args:
        estimated: (H, 2), seconds in the song and in the record.
        true: H tensors (n, 2), where each of n occurrences begins in the song and in the record.
        within: Largest error in seconds.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: Wrong shapes, a hit without an occurrence, or estimates that are not finite.
    """
    if estimated.ndim != 2 or estimated.shape[1] != 2 or len(estimated) != len(true) or not within > 0:
        raise ValueError(
            f"localisation needs (hits, 2) seconds, occurrences for each and a positive error, got "
            f"{tuple(estimated.shape)}, {len(true)} and {within}"
        )
    if any(own.ndim != 2 or own.shape[1] != 2 or len(own) == 0 for own in true):
        raise ValueError("every hit needs at least one occurrence (n, 2): seconds in the song and in the record")
    if not bool(estimated.isfinite().all()):
        raise ValueError("estimated seconds must be finite")
    errors = [(own.double() - at.double()).abs() for own, at in zip(true, estimated, strict=True)]
    kinds = {
        "localised": [error.amax(1).amin() for error in errors],
        "localised_song": [error[:, 0].amin() for error in errors],
        "localised_original": [error[:, 1].amin() for error in errors],
    }
    found = {
        name: with_interval(_mean, (torch.stack(nearest) <= within).double(), resamples=resamples, seed=seed)
        if nearest
        else Interval(*[float("nan")] * 3)
        for name, nearest in kinds.items()
    }
    return LocalisationScores(**found, n_hits=len(true))


def with_interval(
    statistic: Callable[..., Tensor], *groups: Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return a statistic with its percentile bootstrap 95 % interval (Efron, 1979).

    Args:
        statistic: Maps groups (B, n) to (B,).
        groups: (n,) each; every group is resampled on its own, with replacement.
        resamples: B.
        seed: Of the draws.

    Raises:
        ValueError: No resamples, or a group without values.
    """
    if resamples < 1 or not groups or any(group.ndim != 1 or len(group) == 0 for group in groups):
        raise ValueError("a bootstrap needs at least one resample and groups (n,) of at least one value")
    value = statistic(*(group[None] for group in groups)).item()
    if all(len(group) == 1 for group in groups):
        return Interval(value, float("nan"), float("nan"))
    generator = torch.Generator().manual_seed(seed)
    drawn = [group[torch.randint(len(group), (resamples, len(group)), generator=generator)] for group in groups]
    low, high = statistic(*drawn).double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(value, low, high)


def _mean(values: Tensor) -> Tensor:
    return values.mean(1)


def _median(values: Tensor) -> Tensor:
    # Of an even number the mean of the middle two.
    ordered, n = values.sort(1).values, values.shape[1]
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def _areas(found: Tensor, missing: Tensor) -> Tensor:
    # How often a song with a sample has the higher score, a tie counting half: (B, P) and (B, N) to (B,).
    ordered = missing.sort(1).values.contiguous()
    below, up_to = (torch.searchsorted(ordered, found.contiguous(), right=right) for right in (False, True))
    return (below + up_to).double().mean(1) / (2 * missing.shape[1])


def _false_positives(found: Tensor, missing: Tensor) -> Tensor:
    needed = -(-_NEEDED_TPR * found.shape[1] // 100)
    threshold = found.sort(1, descending=True).values[:, needed - 1 : needed]
    return (missing >= threshold).double().mean(1)
