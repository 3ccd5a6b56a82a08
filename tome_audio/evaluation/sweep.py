"""Accuracy, MACs and measured speed-up of one model over several settings of r, in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tome_audio.merge import Rate, SimilarityThreshold
from tome_audio.patch import Trace, apply_patch, describe, is_patched, trace
from tome_audio.patch.config import Metric
from tome_audio.profiling import interleaved, ratio


@dataclass(frozen=True)
class SweepRow:
    """One setting of r. Accuracies and agreement are in percent.

    `tokens_left` counts what the last block leaves, or, where it computes the prefix alone, what enters it.
    `macs_cut` counts the encoder's blocks. `speedup` is the median over batches of unpatched seconds / merged seconds,
    `speedup_low` and `speedup_high` its quartiles. `agreement` is how often the top label is the unpatched model's.
    `accuracy_spoken` leaves out clips of silence, where the labels have them.
    """

    r: Rate
    tokens_left: int
    macs_cut: float
    speedup: float
    speedup_low: float
    speedup_high: float
    accuracy: float
    accuracy_spoken: float | None
    agreement: float
    n_clips: int


class SweepAnswers(NamedTuple):
    """Rows, one per setting of r; the truth; and what each setting answered, unpatched first.

    Truth and answers are class indices (N,); where clips have several labels, labels (N, K) and logits (N, K).
    """

    rows: list[SweepRow]
    truth: Tensor
    answers: list[Tensor]


def sweep(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    rates: Sequence[Rate],
    *,
    metric: Metric = "key",
    silence: int | None = None,
    on_batch: Callable[[], None] | None = None,
) -> list[SweepRow]:
    """Score and time the model with every r, against the unpatched model, batch by batch in turn.

    The model itself is left as it is: a copy of it is patched. The first batch is run once before the clock starts;
    a last, smaller batch is scored but not timed.

    Args:
        model: an unpatched model in eval mode that maps inputs to logits (B, K).
        batches: inputs of the model and class indices (B,).
        rates: settings of r.
        metric: what similarity is measured on.
        silence: index of the class that `accuracy_spoken` leaves out.
        on_batch: called after each batch.

    Raises:
        ValueError: if there is no batch, an r is not understood, or the model is already patched.
        UnsupportedModelError: if the model cannot be patched.
    """
    found = sweep_answers(model, batches, rates, metric=metric, silence=silence, on_batch=on_batch)
    return found.rows


@torch.inference_mode()
def sweep_answers(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    rates: Sequence[Rate],
    *,
    metric: Metric = "key",
    silence: int | None = None,
    multi_label: bool = False,
    on_batch: Callable[[], None] | None = None,
) -> SweepAnswers:
    """Do what `sweep` does and keep the answers; without any rate the model is only scored, whatever model it is.

    With `multi_label` batches hold labels (B, K), and the accuracy of a row is NaN: it means nothing there.

    Raises:
        ValueError: as `sweep`.
        UnsupportedModelError: as `sweep`, if there are rates.
    """
    if is_patched(model):
        raise ValueError("sweep compares with the unpatched model: call remove_patch(model) first")
    if any(isinstance(rate, SimilarityThreshold) for rate in rates):
        raise ValueError("a SimilarityThreshold merges what the clips have: a sweep takes settings with fixed amounts")
    merged: Any = apply_patch(copy.deepcopy(model), metric=metric) if rates else None
    for rate in rates:
        merged.r = rate
    names = ["unpatched", *(str(rate) for rate in rates)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    answers: dict[str, list[Tensor]] = {name: [] for name in names}
    targets: list[Tensor] = []
    passes: dict[str, Trace] = {}
    for inputs, target in batches:
        calls: dict[str, Callable[[], Any]] = {
            "unpatched": partial(_answer, model, None, inputs, answers["unpatched"], multi_label)
        }
        for rate, name in zip(rates, names[1:], strict=True):
            calls[name] = partial(_answer, merged, rate, inputs, answers[name], multi_label)
        if not targets:
            passes = {name: _pass(merged, rate, inputs) for rate, name in zip(rates, names[1:], strict=True)}
            model(inputs)
        for name, (taken,) in interleaved(calls, turns=1, warmup=0).items():
            if not targets or len(target) == len(targets[0]):
                seconds[name].append(taken)
        targets.append(target.cpu())
        if on_batch is not None:
            on_batch()
    if not targets:
        raise ValueError("sweep needs at least one batch of clips")
    truth, base = torch.cat(targets), torch.cat(answers["unpatched"])
    rows = []
    for rate, name in zip(rates, names[1:], strict=True):
        merged.r = rate
        answer = torch.cat(answers[name])
        same = (answer.argmax(-1) == base.argmax(-1)) if multi_label else (answer == base)
        rows.append(
            SweepRow(
                rate,
                passes[name].tokens[-1],
                describe(merged, passes[name].n_tokens).macs_cut,
                *ratio(seconds["unpatched"], seconds[name]),
                accuracy=float("nan") if multi_label else _percent(answer == truth),
                accuracy_spoken=None
                if silence is None or multi_label
                else _percent((answer == truth)[truth != silence]),
                agreement=_percent(same),
                n_clips=len(truth),
            )
        )
    return SweepAnswers(rows, truth, [torch.cat(answers[name]) for name in names])


def _answer(model: Any, rate: Rate | None, inputs: Tensor, answers: list[Tensor], whole: bool) -> None:
    if rate is not None:
        model.r = rate
    output = model(inputs)
    logits = getattr(output, "logits", output)
    answers.append((logits if whole else logits.argmax(-1)).cpu())


def _pass(model: Any, rate: Rate, inputs: Tensor) -> Trace:
    model.r = rate
    with trace(model) as traces:
        model(inputs)
    return traces[0]


def _percent(right: Tensor) -> float:
    return 100.0 * right.double().mean().item()
