from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tome_audio.losses import distillation_loss
from tome_audio.metrics import multi_label_scores, single_label_scores
from tome_audio.tasks import Classification

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
MIXED = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Fixed(nn.Module):
    """Logits that are parameters, whatever the features; keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(LOGITS.clone())

    def forward(self, x, **inputs):
        self.seen, self.inputs = x, inputs
        return self.logits


def loss(task, **batch):
    return task.loss(Fixed(), {"features": torch.zeros(2, 4), **batch}, 0, generator())


def test_cross_entropy_of_indices_and_of_mixed_labels():
    indices = torch.tensor([0, 2])
    logs = -LOGITS.log_softmax(1)
    assert loss(Classification(), labels=indices)[0].item() == pytest.approx(((logs[0, 0] + logs[1, 2]) / 2).item())
    assert loss(Classification(), labels=MIXED)[0].item() == pytest.approx((logs * MIXED).sum(1).mean().item())
    smooth = 0.9 * F.one_hot(indices, 3) + 0.1 / 3
    found = loss(Classification(label_smoothing=0.1), labels=indices)
    assert found[0].item() == pytest.approx((logs * smooth).sum(1).mean().item()) and found[1] == {}


def test_binary_cross_entropy_of_several_labels_and_of_indices():
    p = LOGITS.sigmoid()
    wanted = -(SEVERAL * p.log() + (1 - SEVERAL) * (1 - p).log()).mean()
    assert loss(Classification(binary=True), labels=SEVERAL)[0].item() == pytest.approx(wanted.item())
    indices = torch.tensor([0, 2])
    one_hot = loss(Classification(binary=True), labels=F.one_hot(indices, 3).float())[0]
    assert loss(Classification(binary=True), labels=indices)[0] == one_hot


def test_several_labels_per_clip_need_binary():
    task = Classification()
    with pytest.raises(ValueError, match="must add up to 1 where multi_label is False: is this multi-label data"):
        loss(task, labels=SEVERAL)
    with pytest.raises(ValueError, match="must add up to 1"):
        task.metrics({"logits": LOGITS, "labels": SEVERAL})


def distill(student, target, teacher, *, known):
    hard = F.cross_entropy(student, target)
    per_clip = (student - teacher).square().mean(1)
    soft = per_clip.mean() if known is None else per_clip[known].sum() / known.sum().clamp(min=1)
    return 0.1 * hard + 0.9 * soft, hard, soft


def test_a_teacher_in_the_batch_is_handed_on_with_what_it_knows():
    indices, teacher = torch.tensor([0, 2]), torch.ones(2, 3)
    task = Classification(distillation=distill)
    for extra, soft in (
        ({}, (LOGITS - 1).square().mean()),
        ({"teacher_known": torch.tensor([True, False])}, (LOGITS[0] - 1).square().mean()),
    ):
        total, logs = loss(task, labels=indices, teacher=teacher, **extra)
        hard = F.cross_entropy(LOGITS, indices)
        assert total.item() == pytest.approx((0.1 * hard + 0.9 * soft).item())
        assert logs["hard"].item() == pytest.approx(hard.item()) and logs["soft"].item() == pytest.approx(soft.item())
        assert total.requires_grad and not logs["soft"].requires_grad


def test_clips_that_a_teacher_knows_are_counted_where_it_may_not_know_all():
    known, distilled = {"teacher_known": torch.tensor([True, False, True])}, Classification(distillation=distill)
    assert distilled.counts(known) == {"n_known": 2} and distilled.counts({}) == {}
    assert Classification().counts(known) == {}
    assert Classification(distillation=distill, teacher=lambda *given: None).counts(known) == {}


def test_the_soft_loss_is_divided_by_what_the_step_counts():
    task = Classification(distillation=partial(distillation_loss, weight=0.1, multi_label=False))
    given = {"labels": torch.tensor([0, 2]), "teacher": torch.ones(2, 3), "teacher_known": torch.tensor([True, False])}
    alone = loss(task, **given)[1]["soft"]
    assert loss(task, **given, n_known=4.0)[1]["soft"].item() == pytest.approx(alone.item() / 4)
    nobody = {**given, "teacher_known": torch.tensor([False, False])}
    assert loss(task, **nobody, n_known=0.0)[1]["soft"] == 0


def test_a_teacher_in_the_loop_hears_what_the_student_hears():
    class Teacher:
        def __call__(self, student, features, **inputs):
            self.features, self.inputs = features, inputs
            return torch.zeros(2, 3)

    teacher, student = Teacher(), Fixed()
    task = Classification(
        distillation=distill, teacher=teacher, inputs=["lengths"],
        augment=lambda x, generator: x + torch.randn(x.shape, generator=generator),
    )  # fmt: skip
    given = {"features": torch.zeros(2, 4), "labels": torch.tensor([0, 2]), "lengths": torch.tensor([3, 4])}
    task.loss(student, given, 0, generator(5))
    expected = torch.randn(2, 4, generator=generator(5))
    assert torch.equal(student.seen, expected) and torch.equal(teacher.features, expected)
    assert teacher.inputs == student.inputs == {"lengths": given["lengths"]}
    assert torch.equal(given["features"], torch.zeros(2, 4))
    task.outputs(student, given)
    assert torch.equal(student.seen, given["features"])  # nothing is augmented in evaluation


def test_figures_of_one_label_of_several_and_of_ones_own():
    indices = torch.tensor([0, 2])
    figures = Classification().metrics({"logits": LOGITS, "labels": indices})
    assert figures == {"loss": F.cross_entropy(LOGITS, indices).item(), "accuracy": 0.5}
    several = Classification(binary=True)
    figures = several.metrics({"logits": LOGITS, "labels": SEVERAL})
    # Once, on logits: AST's validation loss takes the sigmoid twice.
    assert figures == {"loss": F.binary_cross_entropy_with_logits(LOGITS, SEVERAL).item()}
    assert several.score(figures) == -figures["loss"]
    own = Classification(binary=True, scores=lambda logits, labels: {"top": logits.max()}, best="top")
    assert own.score(own.metrics({"logits": LOGITS, "labels": SEVERAL})) == 2.0
    with pytest.raises(ValueError, match="best='accuracy' is not among the figures loss"):
        Classification(binary=True, best="accuracy").metrics({"logits": LOGITS, "labels": SEVERAL})


def test_the_scores_of_the_metrics_package_are_taken_as_they_are():
    several = Classification(binary=True, scores=multi_label_scores, best="mean_ap")
    figures = several.metrics({"logits": LOGITS, "labels": SEVERAL})
    assert set(figures) == {"loss", "mean_ap", "mean_auc", "d_prime"}
    assert several.score(figures) == multi_label_scores(LOGITS, SEVERAL).mean_ap
    one = Classification(scores=single_label_scores, best="macro_f1")
    figures = one.metrics({"logits": LOGITS, "labels": torch.tensor([0, 2])})
    assert set(figures) == {"loss", "accuracy", "macro_precision", "macro_recall", "macro_f1"}
    assert figures["accuracy"] == 0.5 and one.score(figures) == pytest.approx(1 / 2)


def test_outputs_are_single_precision_and_hugging_face_answers_are_understood():
    class Answer(nn.Module):
        def forward(self, x):
            return {"logits": LOGITS.bfloat16()}

    outputs = Classification().outputs(Answer(), {"features": torch.zeros(2, 4), "labels": torch.tensor([0, 2])})
    assert outputs["logits"].dtype == torch.float32

    class Silent(nn.Module):
        def forward(self, x):
            return {"hidden": LOGITS}

    with pytest.raises(TypeError, match="should answer with logits, got dict"):
        Classification().outputs(Silent(), {"features": torch.zeros(2, 4), "labels": torch.tensor([0, 2])})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": lambda *a: None}, "a teacher without a distillation loss teaches nothing"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0 must be in \[0, 1\)"),
        ({"label_smoothing": 0.1, "binary": True}, "goes with cross-entropy alone"),
        ({"label_smoothing": 0.1, "distillation": distill}, "a distillation loss brings its own"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Classification(**settings)


def test_distillation_without_a_teacher_says_where_to_put_one():
    with pytest.raises(ValueError, match=r"give the task one, or put `teacher` \(B, K\) into the batches"):
        loss(Classification(distillation=distill), labels=torch.tensor([0, 2]))


def test_facts_are_plain_and_hold_no_address():
    class Own:
        def __call__(self, *given):
            return given

    task = Classification(
        distillation=partial(distill, torch.zeros(1), extra=Own()),
        augment=Own(),
        scores=lambda *given: {},
        inputs=("n",),
    )
    facts = task.facts()
    assert json.loads(json.dumps(facts)) == facts and "0x" not in json.dumps(facts)
    assert facts["kind"] == "Classification" and facts["augment"] == "Own" and facts["inputs"] == ["n"]
    assert facts["distillation"] == "distill" and facts["distillation.0"] == "Tensor"
    assert facts["distillation.extra"] == "Own" and facts["teacher"] is None
