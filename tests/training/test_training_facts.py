"""What a resumed run must agree on: the order of clips, the task and its teacher, and plain facts of the caller."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import NoisySounds, make_model, make_trainer
from torch import nn

from tome_audio.data.sampling import EpochSampler
from tome_audio.losses import distillation_loss
from tome_audio.tasks import Classification, ModelTeacher
from tome_audio.training.trainer import Trainer, TrainingData


def other_run(folder, order=None, task=None):
    t = make_trainer(folder, epochs=1, average=None)
    data = TrainingData(NoisySounds(), None, order)
    return Trainer(t.task if task is None else task, make_model(), data, t.settings, folder)


def distilled(weight, teacher=None):
    return Classification(
        distillation=partial(distillation_loss, weight=weight, multi_label=False), teacher=teacher, best="loss"
    )


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"order": EpochSampler(52, 1)}, {}, r"order\.kind was EpochSampler, now Shuffled; order\.seed was 1, now 0"),
        ({"order": EpochSampler(52, 1)}, {"order": EpochSampler(52, 2)}, r"\(order\.seed was 1, now 2\)"),
        (
            {"order": EpochSampler(52, 1, torch.ones(52))},
            {"order": EpochSampler(52, 1, torch.arange(52.0))},
            r"\(order\.weights was [0-9a-f]{16}, now [0-9a-f]{16}\)",
        ),
        ({"task": Classification()}, {"task": Classification(binary=True)}, r"\(task\.binary was False, now True\)"),
        (
            {},
            {"task": Classification(best="accuracy")},
            r"task\.best was None, now accuracy; .*task\.kind was None, now",
        ),
        (
            {"task": distilled(0.1, ModelTeacher(make_model()))},
            {"task": distilled(0.2, ModelTeacher(make_model()))},
            r"\(task\.distillation\.weight was 0\.1, now 0\.2\)",
        ),
        (
            {"task": distilled(0.1, ModelTeacher(make_model()))},
            {"task": distilled(0.1, ModelTeacher(nn.Sequential(nn.Flatten(), nn.Linear(60, 3))))},
            r"\(task\.teacher\.weights was [0-9a-f]{16}, now [0-9a-f]{16}\)",
        ),
    ],
)
def test_another_order_or_task_does_not_resume(tmp_path, before, now, named):
    other_run(tmp_path, **before).run()
    with pytest.raises(ValueError, match=named):
        other_run(tmp_path, **now).run(resume=True)
    other_run(tmp_path, **before).run(resume=True)


def test_a_checkpoint_that_does_not_say_its_order_and_task_still_resumes(tmp_path):
    other_run(tmp_path, EpochSampler(52, 1), Classification()).run()
    path = next((tmp_path / "checkpoints").iterdir()) / "state.pt"
    state = torch.load(path, weights_only=True)
    state["facts"] = {name: value for name, value in state["facts"].items() if not name.startswith(("order.", "task."))}
    torch.save(state, path)
    other_run(tmp_path, EpochSampler(52, 1), Classification()).run(resume=True)


@pytest.mark.parametrize("value", [Path("clips"), np.float64(0.1), [1, {"a": (np.int64(2),)}], {Path("a"): 1}])
def test_facts_that_could_not_be_read_back_are_refused(tmp_path, value):
    t = make_trainer(tmp_path)
    plain = {"lambda": 0.1, "labels": ["a", "b"], "range": (1, None), "data": {"path": "clips", "cached": True}}
    assert Trainer(t.task, t.model, t.data, t.settings, tmp_path, facts=plain).facts["data"] == plain["data"]
    with pytest.raises(ValueError, match=r"the fact 'odd' holds .* which a checkpoint cannot give back"):
        Trainer(t.task, t.model, t.data, t.settings, tmp_path, facts={**plain, "odd": value})
