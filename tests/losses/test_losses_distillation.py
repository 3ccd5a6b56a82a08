"""Distillation against loops in float64, and its exact edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tome_audio.losses import distillation_loss, hard_loss, soft_loss, soften

cases = st.fixed_dictionaries(
    {
        "n_clips": st.integers(1, 5),
        "n_classes": st.integers(2, 6),
        "weight": st.floats(0, 1),
        "temperature": st.floats(0.3, 8),
        "smoothing": st.sampled_from([0.0, 0.1, 0.5]),
        "indices": st.booleans(),
        "multi_label": st.booleans(),
        "seed": st.integers(0, 10**6),
    }
)


def draw(case, dtype=torch.float64):
    generator = torch.Generator().manual_seed(case["seed"])
    shape = (case["n_clips"], case["n_classes"])
    student = 3 * torch.randn(shape, generator=generator, dtype=dtype)
    teacher = 3 * torch.randn(shape, generator=generator, dtype=dtype)
    known = torch.rand(shape[0], generator=generator) < 0.6
    if case["indices"]:
        target = torch.randint(shape[1], shape[:1], generator=generator)
    else:
        target = torch.rand(shape, generator=generator, dtype=dtype)
        target = target if case["multi_label"] else target / target.sum(1, keepdim=True)
    return student, target, teacher, known


def log_softmax(row):
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def bce(logit, p):
    return -p * log_sigmoid(logit) - (1 - p) * log_sigmoid(-logit)


def naive_hard(student, target, multi_label, smoothing):
    n_classes, per_clip = student.shape[1], []
    for row, label in zip(student.tolist(), target.tolist(), strict=True):
        wanted = label if isinstance(label, list) else [float(k == label) for k in range(n_classes)]
        wanted = [y * (1 - smoothing) + smoothing / n_classes for y in wanted]
        if multi_label:
            per_clip.append(sum(bce(x, y) for x, y in zip(row, wanted, strict=True)) / n_classes)
        else:
            per_clip.append(-sum(y * x for x, y in zip(log_softmax(row), wanted, strict=True)))
    return sum(per_clip) / len(per_clip)


def naive_soft(student, teacher, known, multi_label, temperature):
    total, count = 0.0, 0
    for row, wanted, is_known in zip(student.tolist(), teacher.tolist(), known.tolist(), strict=True):
        if not is_known:
            continue
        count += 1
        xs, ys = [x / temperature for x in row], [y / temperature for y in wanted]
        if multi_label:
            total += sum(bce(x, math.exp(log_sigmoid(y))) for x, y in zip(xs, ys, strict=True)) / len(xs)
        else:
            q, p = log_softmax(xs), log_softmax(ys)
            total += sum(math.exp(b) * (b - a) for a, b in zip(q, p, strict=True))
    return temperature**2 * total / count if count else 0.0


@given(case=cases)
@settings(max_examples=80, deadline=None)
def test_it_is_the_formula(case):
    student, target, teacher, known = draw(case)
    multi_label, temperature = case["multi_label"], case["temperature"]
    found = distillation_loss(
        student, target, teacher, weight=case["weight"], multi_label=multi_label, known=known, temperature=temperature,
        label_smoothing=case["smoothing"],
    )  # fmt: skip
    hard = naive_hard(student, target, multi_label, case["smoothing"])
    soft = naive_soft(student, teacher, known, multi_label, temperature)
    assert found.hard.item() == pytest.approx(hard, rel=1e-9, abs=1e-12)
    assert found.total.item() == pytest.approx(case["weight"] * hard + (1 - case["weight"]) * soft, rel=1e-9, abs=1e-9)
    if case["weight"] < 1:
        assert found.soft.item() == pytest.approx(soft, rel=1e-9, abs=1e-10)


@given(case=cases)
@settings(max_examples=40, deadline=None)
def test_weight_1_is_no_distillation_bit_for_bit(case):
    student, target, teacher, _ = draw(case, torch.float32)
    plain, distilled = student.clone().requires_grad_(), student.clone().requires_grad_()
    if case["multi_label"]:
        labels = F.one_hot(target, case["n_classes"]).float() if case["indices"] else target
        loss = F.binary_cross_entropy_with_logits(plain, labels)
    else:
        loss = F.cross_entropy(plain, target)
    found = distillation_loss(distilled, target, teacher * math.nan, weight=1.0, multi_label=case["multi_label"])
    assert torch.equal(found.total, loss) and found.soft == 0
    assert torch.equal(
        distillation_loss(student, target, None, weight=1, multi_label=case["multi_label"]).total, loss.detach()
    )
    loss.backward()
    found.total.backward()
    assert torch.equal(plain.grad, distilled.grad)


@pytest.mark.parametrize("multi_label", [False, True])
def test_weight_0_is_the_teacher_alone(multi_label):
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    losses = [
        distillation_loss(student, torch.tensor(labels), teacher, weight=0.0, multi_label=multi_label).total
        for labels in ([0, 1, 2], [3, 3, 3])
    ]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], soft_loss(student, teacher, multi_label=multi_label))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_clip_nobody_knows_takes_part_in_the_hard_mean_alone(multi_label):
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher, target = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    teacher[1] = math.nan
    known = torch.tensor([True, False, True])
    found = distillation_loss(student, target, teacher, weight=0.3, multi_label=multi_label, known=known)
    rest = soft_loss(student[known], teacher[known], multi_label=multi_label)
    assert torch.allclose(found.soft, rest, rtol=1e-12)
    (soft_gradient,) = torch.autograd.grad(found.soft, student, retain_graph=True)
    assert (soft_gradient[1] == 0).all() and (soft_gradient[[0, 2]] != 0).any(1).all()
    found.total.backward()
    assert student.grad.isfinite().all() and (student.grad[1] != 0).any()


@pytest.mark.parametrize("weight", [0.0, 0.3])
@pytest.mark.parametrize("multi_label", [False, True])
def test_no_known_clip_leaves_the_weighted_hard_loss(multi_label, weight):
    student, target = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    nobody, teacher = torch.zeros(3, dtype=torch.bool), torch.full((3, 4), math.nan)
    found = distillation_loss(student, target, teacher, weight=weight, multi_label=multi_label, known=nobody)
    assert found.soft == 0 and torch.equal(found.total, weight * found.hard)
    found.total.backward()
    assert torch.equal(student.grad != 0, torch.full((3, 4), weight > 0))


@pytest.mark.parametrize("multi_label", [False, True])
def test_no_gradient_reaches_the_teacher_and_a_perfect_student_has_none(multi_label):
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    soft = soft_loss(student, teacher, multi_label=multi_label, temperature=2.0)
    soft.backward()
    assert teacher.grad is None and student.grad.abs().max() < 1e-12
    if not multi_label:
        assert abs(soft.item()) < 1e-12


def test_class_indices_are_one_hot_labels_and_smoothing_spreads_them():
    student, target = torch.randn(3, 4, dtype=torch.float64), torch.tensor([3, 0, 1])
    one_hot = F.one_hot(target, 4).double()
    for multi_label in (False, True):
        for smoothing in (0.0, 0.2):
            options = {"multi_label": multi_label, "label_smoothing": smoothing}
            by_index, by_label = hard_loss(student, target, **options), hard_loss(student, one_hot, **options)
            spread = hard_loss(student, one_hot * (1 - smoothing) + smoothing / 4, multi_label=multi_label)
            assert torch.allclose(by_index, by_label, rtol=1e-12) and torch.allclose(by_index, spread, rtol=1e-12)
    whole = torch.tensor([[1, 0, 1, 0]])
    assert torch.equal(
        hard_loss(student[:1], whole, multi_label=True), hard_loss(student[:1], whole.double(), multi_label=True)
    )


def test_temperature_squared_keeps_the_gradient_of_small_logits():
    """For small logits the gradient of the KL part is (student - teacher) / K, whatever T."""
    teacher = 1e-4 * torch.randn(1, 4, dtype=torch.float64)
    gradients = []
    for temperature in (1.0, 4.0, 20.0):
        student = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
        soft_loss(student, teacher, multi_label=False, temperature=temperature).backward()
        gradients.append(student.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3) and torch.allclose(
        gradients[0], gradients[2], rtol=1e-3
    )
    assert torch.allclose(gradients[0], -(teacher - teacher.mean()) / 4, rtol=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_mixed_teachers_go_in_as_probabilities(multi_label):
    student, first, second = (torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    soft = {"multi_label": multi_label, "temperature": 2.0}
    p, q = (soften(teacher, 2.0, multi_label=multi_label) for teacher in (first, second))
    as_logits = soft_loss(student, first, **soft)
    assert torch.allclose(soft_loss(student, p, probabilities=True, **soft), as_logits, rtol=1e-12)
    if multi_label:  # binary cross-entropy is linear in its target
        mixed = soft_loss(student, 0.3 * p + 0.7 * q, probabilities=True, **soft)
        assert torch.allclose(mixed, 0.3 * as_logits + 0.7 * soft_loss(student, second, **soft), rtol=1e-12)


@pytest.mark.parametrize("cut", [3, 2])
def test_parts_of_a_batch_add_up_to_the_whole(cut):
    student, teacher = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    known = torch.tensor([True, True, True, False, True, False])
    whole = soft_loss(student, teacher, multi_label=True, known=known)
    parts = [
        n / 6 * soft_loss(student[s], teacher[s], multi_label=True, known=known[s], n_known=4 * n / 6)
        for s, n in ((slice(0, cut), cut), (slice(cut, 6), 6 - cut))
    ]
    assert torch.allclose(sum(parts), whole, rtol=1e-12)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, multi_label):
    student, teacher = torch.randn(3, 4).to(dtype), torch.randn(3, 4).to(dtype)
    options = {"weight": 0.2, "multi_label": multi_label}
    target = torch.tensor([0, 1, 2])
    found = distillation_loss(student, target, teacher, **options).total
    assert found.dtype == torch.float32
    assert torch.equal(found, distillation_loss(student.float(), target, teacher.float(), **options).total)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-500.0, 500.0, 0.0]])
    for multi_label in (False, True):
        total = distillation_loss(student, torch.tensor([1]), teacher, weight=0.1, multi_label=multi_label).total
        (gradient,) = torch.autograd.grad(total, student)
        assert total.isfinite() and gradient.isfinite().all()


GOOD = {
    "student": torch.zeros(2, 3), "target": torch.tensor([0, 2]), "teacher": torch.zeros(2, 3), "weight": 0.5,
    "multi_label": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -0.1}, "weight .* from 0 .* to 1 .*, got -0.1"),
        ({"weight": 1.01}, "got 1.01"),
        ({"weight": math.nan}, "got nan"),
        ({"temperature": 0}, "temperature must be positive and finite, got 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": 0, "weight": 1.0}, "temperature"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"teacher": None}, "needs the teacher's logits"),
        ({"teacher": torch.zeros(2, 4)}, r"student's shape \(2, 3\), got torch.float32 of shape \(2, 4\)"),
        ({"teacher": torch.zeros(2, 3, dtype=torch.int64)}, "teacher must be floating-point"),
        ({"teacher": torch.tensor([[0.0, 0, 0], [0, math.nan, 0]])}, "NaN or infinite for clips 1 of the batch"),
        ({"teacher": torch.tensor([[0.0, math.inf, 0], [0, 0, 0]])}, "NaN or infinite for clips 0 of the batch"),
        ({"teacher": torch.full((2, 3), 1.5), "probabilities": True}, "not probabilities for clips 0, 1"),
        ({"known": torch.ones(3, dtype=torch.bool)}, r"known must be bool of shape \(2,\)"),
        ({"known": torch.ones(2)}, "known must be bool"),
        ({"n_known": 0}, "n_known must be positive"),
        ({"student": torch.zeros(2, 3, 1)}, r"student must be floating-point logits \(clips, classes\)"),
        ({"student": torch.zeros(0, 3)}, "student must be"),
        ({"target": torch.tensor([0, 3])}, "holds class 3, but the student has 3 classes"),
        ({"target": torch.tensor([-1, 0])}, "holds class -1"),
        ({"target": torch.tensor([0.0, 1.0])}, "int64 class indices"),
        ({"target": torch.zeros(2, 4)}, r"labels \(2, 3\), got torch.float32 of shape \(2, 4\)"),
        ({"target": torch.full((2, 3), 1.5)}, "labels must be from 0 to 1, got 1.5 to 1.5"),
        ({"target": torch.tensor([[1.0, 1, 0], [1, 0, 0]])}, "must add up to 1 .* multi-label data"),
        ({"target": torch.full((2, 3), math.nan)}, "labels must be from 0 to 1"),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(**{**GOOD, **change})
