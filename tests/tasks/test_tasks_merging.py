from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tome_audio.merge import ComputeTarget, Schedule
from tome_audio.models import AST
from tome_audio.patch import NotPatchedError, apply_patch, remove_patch, trace
from tome_audio.tasks import Between, Classification, MergedTask, OneOf, TargetBetween, draw_rate

GENERATOR = torch.Generator()


def small_ast(drop_path=0.0):
    torch.manual_seed(0)
    model = AST(None, width=32, depth=3, n_heads=2, n_classes=4, n_mels=32, n_frames=128, fstride=8, tstride=8,
                drop_path=drop_path)  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    return model


def batch(n=4):
    generator = torch.Generator().manual_seed(1)
    return {"features": torch.randn(n, 128, 32, generator=generator), "labels": torch.arange(n) % 4}


def gradients(model, task, step=0):
    model.zero_grad()
    task.loss(model, batch(), step, GENERATOR)[0].backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(
    "rates", [OneOf([0, 4, Schedule((3, 2)), ComputeTarget(2.0)]), Between(2, 9), TargetBetween(1.0, 3.0)]
)
def test_r_is_drawn_for_each_step_from_seed_and_step_alone(rates):
    drawn = [draw_rate(rates, step, seed=7) for step in range(300)]
    torch.manual_seed(99)
    assert drawn[200:] == [draw_rate(rates, step, seed=7) for step in range(200, 300)]
    assert drawn != [draw_rate(rates, step, seed=8) for step in range(300)]
    everything = {
        OneOf: [0, 4, Schedule((3, 2)), ComputeTarget(2.0)], Between: list(range(2, 10)),
        TargetBetween: [ComputeTarget(1 + tenth / 10) for tenth in range(21)],
    }[type(rates)]  # fmt: skip
    counts = [drawn.count(rate) for rate in everything]
    assert sum(counts) == 300 and min(counts) > 300 / len(counts) / 4


def test_the_model_merges_what_was_drawn_and_is_evaluated_with_its_own_r():
    model, task = apply_patch(small_ast()), MergedTask(Classification(), Between(1, 5), evaluate=0, seed=3)
    n_tokens = small_ast().n_tokens
    for step in range(6):
        with trace(model) as traces:
            task.loss(model.train(), batch(), step, GENERATOR)
        assert model.r == draw_rate(Between(1, 5), step, 3)
        assert traces[0].tokens[1] == n_tokens - model.r
    expected = remove_patch(small_ast_patched()).eval()(batch()["features"])
    with torch.no_grad():
        outputs = task.outputs(model.eval(), batch())
    assert torch.equal(outputs["logits"], expected) and model.r == 0


def small_ast_patched():
    return apply_patch(small_ast())


@pytest.mark.parametrize("train", [4, [6, 3, 1], (3, -1.0), ComputeTarget(2.0), Schedule((2, 1), before=(5,))])
def test_a_fixed_r_is_evaluated_as_trained_unless_asked_otherwise(train):
    model = small_ast_patched()
    task = MergedTask(Classification(), train)
    task.loss(model, batch(), 0, GENERATOR)
    assert model.r == train == task.rate(10)
    task.outputs(model, batch())
    assert model.r == train
    off = MergedTask(Classification(), train, evaluate=0)
    off.outputs(model, batch())
    assert model.r == 0


def test_gradients_flow_through_merging_to_every_parameter():
    plain, merged = (
        gradients(small_ast(), Classification()),
        gradients(small_ast_patched(), MergedTask(Classification(), 8)),
    )
    assert merged.keys() == plain.keys() and len(merged) > 30
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in merged.values())
    assert not torch.allclose(merged["v.patch_embed.proj.weight"], plain["v.patch_embed.proj.weight"])
    none = gradients(small_ast_patched(), MergedTask(Classification(), 0))
    assert all(torch.equal(none[name], plain[name]) for name in plain)


def test_a_merged_gradient_is_the_slope_of_the_merged_loss():
    model, task = small_ast_patched().double(), MergedTask(Classification(), 8)
    given = {"features": batch()["features"].double(), "labels": batch()["labels"]}
    weight = model.mlp_head[1].weight
    loss = task.loss(model, given, 0, GENERATOR)[0]
    (grad,) = torch.autograd.grad(loss, weight)
    step = torch.randn_like(weight)
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            weight += sign * 1e-5 * step
            ends.append(task.loss(model, given, 0, GENERATOR)[0].item())
            weight -= sign * 1e-5 * step
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float((grad * step).sum()), rel=1e-5)


def test_checkpointed_gradients_are_the_same_with_drawn_r():
    """The backward pass runs the model once more: r must still be that of the step."""
    plain, checkpointed = small_ast_patched(), small_ast_patched()
    checkpointed.set_grad_checkpointing()
    task = MergedTask(Classification(), Between(3, 9), evaluate=0)
    for step in range(3):
        a, b = gradients(plain.train(), task, step), gradients(checkpointed.train(), task, step)
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_merged():
    model, task = small_ast_patched(), MergedTask(Classification(), Between(2, 10), evaluate=6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = F.cross_entropy(*task.outputs(model, batch()).values()).item()
    for step in range(60):
        optimizer.zero_grad()
        task.loss(model, batch(), step, GENERATOR)[0].backward()
        optimizer.step()
    assert F.cross_entropy(*task.outputs(model, batch()).values()).item() < 0.5 * before


def test_figures_are_those_of_the_task():
    task = MergedTask(Classification(best="accuracy"), 2)
    figures = task.metrics({"logits": torch.eye(3), "labels": torch.tensor([0, 1, 0])})
    assert figures["accuracy"] == pytest.approx(2 / 3) == task.score(figures)


def test_what_the_task_counts_is_counted():
    given = {"teacher_known": torch.tensor([True, False, True])}
    assert MergedTask(Classification(distillation=lambda *a, **k: None), 2).counts(given) == {"n_known": 2}

    class Bare:
        loss = outputs = metrics = score = None

    assert MergedTask(Bare(), 2).counts(given) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneOf([]), "a list without settings"),
        (lambda: OneOf([1, "x"]), "r="),
        (lambda: Between(5, 4), "0 <= low <= high, got 5 to 4"),
        (lambda: TargetBetween(0.5, 2), "1 <= low <= high, got 0.5 to 2"),
        (lambda: TargetBetween(1, 2, "steep"), "shape='steep' is unknown"),
        (lambda: MergedTask(Classification(), Between(0, 4)), "say which r to evaluate with, 0 for the unmerged model"),
        (lambda: MergedTask(Classification(), -1), "-1"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_that_is_not_patched_is_refused():
    with pytest.raises(NotPatchedError, match="AST is not patched: call apply_patch"):
        MergedTask(Classification(), 4).loss(small_ast(), batch(), 0, GENERATOR)
