from __future__ import annotations

import pytest
import torch
from test_tasks_merging import GENERATOR, batch, small_ast
from torch import nn
from torch.nn import functional as F

from tome_audio.patch import NotPatchedError, apply_patch
from tome_audio.tasks import Between, Classification, MergedTask, ModelTeacher, UnmergedSelf
from tome_audio.training.settings import TrainerSettings
from tome_audio.training.trainer import Trainer, TrainingData


def distill(student, target, teacher, *, known):
    assert known is None
    soft = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student, target)
    return 0.1 * hard + 0.9 * soft, hard, soft


def test_the_unmerged_self_answers_as_without_merging_and_leaves_no_trace():
    x = batch()["features"]
    expected = small_ast().eval()(x)
    student = apply_patch(small_ast(drop_path=0.5), r=7).train()
    student.v.norm.eval()
    found = UnmergedSelf()(student, x)
    assert torch.equal(found, expected) and not found.requires_grad
    assert student.r == 7 and student.training and student.v.blocks[0].training and not student.v.norm.training
    assert not torch.allclose(student.eval()(x), expected)


def test_the_student_keeps_r_and_mode_when_its_own_answer_fails():
    student = apply_patch(small_ast(), r=7).train()
    with pytest.raises(ValueError, match="AST was given an input"):
        UnmergedSelf()(student, torch.zeros(1, 3, 3))
    assert student.r == 7 and student.training
    with pytest.raises(NotPatchedError):
        UnmergedSelf()(small_ast(), batch()["features"])


def test_self_distillation_teaches_nothing_where_nothing_merges():
    soft = []
    for r in (0, 12):
        task = MergedTask(Classification(distillation=distill, teacher=UnmergedSelf()), r)
        soft.append(task.loss(apply_patch(small_ast()), batch(), 0, GENERATOR)[1]["soft"].item())
    assert abs(soft[0]) < 1e-9 < 1e-6 < soft[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_self_distillation_trains_every_parameter_in_any_precision(tmp_path, precision):
    """A teacher's pass without gradient must not leave half-precision copies of the weights to the student's."""
    model = apply_patch(small_ast())
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    clips = [{"features": x, "labels": y} for x, y in zip(*batch(8).values(), strict=True)]
    softs = []

    class Kept(Classification):
        def loss(self, *args):
            found = super().loss(*args)
            softs.append(found[1]["soft"].item())
            return found

    task = MergedTask(Kept(distillation=distill, teacher=UnmergedSelf()), Between(4, 9), evaluate=6)
    settings = TrainerSettings(epochs=6, batch_size=4, lr=1e-3, precision=precision, cpu=True)
    result = Trainer(task, model, TrainingData(clips, clips), settings, tmp_path).run()
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    # A key's bias adds the same to every score of a query, and so has no gradient, but the three biases are one tensor.
    assert moved == list(before) and min(softs) > 0
    assert result.records[-1].loss < result.records[0].loss


def test_another_model_teaches_frozen_and_with_features_of_its_own():
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(128 * 32, 4))
    answer = ModelTeacher(teacher, prepare=lambda x: 2 * x)
    x = batch()["features"]
    found = answer(small_ast(), x, lengths=None)
    assert torch.equal(found, F.linear(2 * x.flatten(1), teacher[2].weight, teacher[2].bias))
    assert not found.requires_grad and not any(parameter.requires_grad for parameter in teacher.parameters())
    task = Classification(distillation=distill, teacher=answer)
    student = small_ast()
    task.loss(student, batch(), 0, GENERATOR)[0].backward()
    assert teacher[2].weight.grad is None and student.mlp_head[1].weight.grad.abs().max() > 0


def test_a_teacher_may_compute_in_another_precision_than_the_student():
    teacher, x = nn.Sequential(nn.Flatten(), nn.Linear(128 * 32, 4)), batch()["features"]
    whole = ModelTeacher(teacher)(small_ast(), x)
    half = ModelTeacher(teacher, precision="bf16")
    assert half(small_ast(), x).dtype == torch.bfloat16 and half.facts()["precision"] == "bf16"
    torch.testing.assert_close(half(small_ast(), x).float(), whole, atol=0.1, rtol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ModelTeacher(teacher, precision="fp32")(small_ast(), x), whole)
        assert ModelTeacher(teacher)(small_ast(), x).dtype == torch.bfloat16
    assert "precision" not in ModelTeacher(teacher).facts()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, r"\(task\.merge\.seed was 1, now 2\)"),
        (
            {"train": Between(1, 4)},
            r"\(task\.merge\.train was Between\(low=1, high=3\), now Between\(low=1, high=4\)\)",
        ),
        ({"evaluate": 2}, r"\(task\.merge\.evaluate was 0, now 2\)"),
    ],
)
def test_a_run_that_draws_r_otherwise_does_not_resume(tmp_path, change, named):
    clips = [{"features": x, "labels": y} for x, y in zip(*batch(4).values(), strict=True)]

    def trainer(change):
        task = MergedTask(Classification(), **{"train": Between(1, 3), "evaluate": 0, "seed": 1, **change})
        settings = TrainerSettings(epochs=1, batch_size=4, cpu=True)
        return Trainer(task, apply_patch(small_ast()), TrainingData(clips), settings, tmp_path)

    trainer({}).run()
    with pytest.raises(ValueError, match=named):
        trainer(change).run(resume=True)
