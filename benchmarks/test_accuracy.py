"""How many clips keep the right label, and how many the label of the unpatched model."""

from functools import lru_cache
from typing import NamedTuple

import pytest
import torch
from candidates import build, logits
from cases import CASES, KWT_WEIGHTS, real_data
from measure import record
from plan import DTYPES, FRONT, WITHOUT_R, Plan, Runs
from rivals import METHODS
from torch import Tensor

from tome_audio.cli.loading import load_model
from tome_audio.cli.sweep import SILENCE, check_labels
from tome_audio.data.clips import find_clips, load_waveforms

PLAN = Plan(
    quick=(Runs("kwt1", tuple(METHODS), batches=(64,)),),
    full=(
        Runs("kwt1", tuple(METHODS), (2, 4, 6, 8, 10, 12, (8, -1), FRONT), (64,)),
        Runs("kwt1", ("unpatched", "merged"), None, (64,), ("bfloat16",)),
        Runs("ast_tiny-test", ("merged",), None, (8,)),
    ),
    methods=tuple(METHODS),
    takes_checkpoint=True,
)
_BASE: dict[tuple[str, str, bool], Tensor] = {}  # labels of the unpatched models, which every run compares with


class Clips(NamedTuple):
    """Inputs of the model (n, ...), class indices (n,), and the class that is silence, if there is one."""

    inputs: Tensor
    target: Tensor
    silence: int | None


@torch.inference_mode()
def test_accuracy(benchmark, run, settings):
    models = build(run, settings)
    clips = _clips(run.case.name, settings)
    key = (run.case.name, run.dtype, settings.compiled)
    if key not in _BASE:
        _BASE[key] = _labels(models.baseline, clips, run, settings)
    base = _BASE[key]
    own = benchmark.pedantic(_labels, (models.candidate, clips, run, settings), rounds=1)
    right, fields = own == clips.target, {}
    if clips.silence is not None:
        fields["accuracy_spoken"] = _percent(right[clips.target != clips.silence])
    if run.method in WITHOUT_R and run.dtype == "float32":
        assert torch.equal(own, base)
    record(
        benchmark, "accuracy", run, settings, models, accuracy=_percent(right), agreement=_percent(own == base),
        n_clips=len(own), **fields,
    )  # fmt: skip


def _labels(model, clips, run, settings) -> Tensor:
    dtype = DTYPES[run.dtype]
    parts = [logits(model(x.to(settings.device, dtype))).argmax(-1).cpu() for x in clips.inputs.split(run.batch)]
    return torch.cat(parts)


def _clips(name: str, settings) -> Clips:
    if settings.checkpoint is not None:
        return _read_clips(settings.checkpoint.source, settings.data, 1)
    if CASES[name].hidden:
        return Clips(CASES[name].inputs(12, torch.device("cpu"), torch.float32), torch.arange(12) % 5, None)
    folder = real_data() / "speech_commands" / "test_v0.02"
    if not folder.is_dir():
        pytest.skip(f"no Speech Commands clips at {folder}: set TOME_AUDIO_DATA")
    return _read_clips(str(real_data() / KWT_WEIGHTS), str(folder), 1 if settings.full else 5)


@lru_cache(maxsize=1)
def _read_clips(model: str, folder: str, every: int) -> Clips:
    """Read every n-th clip of a folder, features extracted."""
    loaded = load_model(model)
    names, clips = loaded.need_labels(), find_clips(folder)[::every]
    check_labels(clips, names, model)
    read = load_waveforms(clips)
    assert not read.errors, read.errors
    assert loaded.prepare is not None
    target = torch.tensor([names.index(clip.label) for clip in read.clips])
    inputs = torch.cat([loaded.prepare(read.waveforms[i : i + 64]) for i in range(0, len(target), 64)])
    return Clips(inputs, target, names.index(SILENCE) if SILENCE in names else None)


def _percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()
