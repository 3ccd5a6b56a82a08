"""Few-shot classification for the trainer: against a loop, learning, and the network's parts."""

import math

import pytest
import torch
from torch import nn

from tome_audio.losses import contrastive_prototypical_loss
from tome_audio.models import AST, FewShotNetwork
from tome_audio.patch import apply_patch, set_r
from tome_audio.tasks import FewShot, MergedTask

SIZES = {"n_mels": 81, "n_frames": 90}


def network(**head):
    return FewShotNetwork("crnn", SIZES, head)


def episode(n_views=1, query_views=1, n_episodes=2, n_way=3, k=2, q=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(n_episodes, n_way, k, n_views, 90, 81, generator=generator)
    query = torch.randn(n_episodes, n_way, q, query_views, 90, 81, generator=generator)
    return {"support": support, "query": query}


def loss(task, model, batch):
    return task.loss(model, batch, 0, torch.Generator().manual_seed(0))


def test_the_loss_is_that_of_a_loop():
    model, batch = network().eval().requires_grad_(False), episode()
    found, logs = loss(FewShot(temperature=2.0), model, batch)
    total = []
    for support, query in zip(batch["support"], batch["query"], strict=True):
        prototypes = [model.encoder(own[:, 0]).double().mean(0) for own in support]
        for own, asked in enumerate(query):
            for clip in model.encoder(asked[:, 0]).double():
                logits = [-float(((clip - p) ** 2).sum()) / 2 for p in prototypes]
                total.append(math.log(sum(math.exp(value) for value in logits)) - logits[own])
    assert float(found) == pytest.approx(sum(total) / len(total), rel=1e-4)
    assert logs.keys() == {"few_shot"}


def test_figures_are_those_of_single_episodes():
    model, task = network().eval().requires_grad_(False), FewShot()
    whole = task.outputs(model, episode(n_episodes=2))
    for i in range(2):
        one = {name: value[i : i + 1] for name, value in episode(n_episodes=2).items()}
        torch.testing.assert_close(task.outputs(model, one)["accuracy"][0], whole["accuracy"][i])
    figures = task.metrics({name: torch.cat([value] * 20) for name, value in whole.items()})
    assert figures["accuracy"] == pytest.approx(float(whole["accuracy"].mean())) and figures["interval"] >= 0
    assert task.score(figures) == figures["accuracy"]


@pytest.mark.parametrize("head", [{}, {"fusion": True, "n_views": 4}, {"relation": True}])
def test_it_learns_to_tell_patterns_apart(head):
    torch.manual_seed(0)
    model, task = network(**head), FewShot(relation=head.get("relation", False))
    patterns = torch.randn(3, 1, 1, 90, 81, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def batch(seed):
        noise = episode(n_views=head.get("n_views", 1), n_episodes=1, seed=seed)
        return {name: value + 2 * patterns for name, value in noise.items()}

    for step in range(25):
        optimizer.zero_grad()
        found, _ = loss(task, model, batch(step))
        found.backward()
        optimizer.step()
    model.eval()
    right = torch.stack([task.outputs(model, batch(100 + i))["accuracy"].mean() for i in range(5)])
    assert right.mean() > 0.8


def test_a_second_loss_reads_the_projection():
    batch = episode()
    model = network(projection=(16, 8)).train()
    second = lambda q, p, generator: contrastive_prototypical_loss(  # noqa: E731
        q, p, temperature=1.0, n_negatives=1, generator=generator
    )
    found, logs = loss(FewShot(contrastive=second, weight=0.5), model, batch)
    torch.testing.assert_close(found, logs["few_shot"] + 0.5 * logs["contrastive"])
    found.backward()
    assert all(weights.grad is not None for weights in model.parameters())


def test_views_without_fusion_are_further_clips():
    model, batch = network().eval(), episode(n_views=4)
    found = model(**batch)
    flat = {"support": batch["support"].flatten(2, 3).unsqueeze(3), "query": batch["query"]}
    torch.testing.assert_close(found["prototypes"], model(**flat)["prototypes"])
    assert found["query"].shape == (2, 3, 2, 64)


def test_fused_views_join_and_a_single_view_stands_for_all():
    model = network(fusion=True, n_views=4).eval()
    found = model(**episode(n_views=4))
    assert found["prototypes"].shape == (2, 3, 256) and found["query"].shape == (2, 3, 2, 256)
    with pytest.raises(ValueError, match="made for 4 views of a clip, got 3"):
        model(**episode(n_views=3))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"fusion": True}, "2 at least"),
        ({"projection": (8, 16), "project_prototypes": False}, "size 64 cannot be compared"),
    ],
)
def test_heads_that_do_not_fit_are_refused(head, said):
    with pytest.raises(ValueError, match=said):
        network(**head)
    with pytest.raises(ValueError, match="unknown encoder"):
        FewShotNetwork("rnn", SIZES)


def test_an_ast_merges_inside_the_network():
    args = {"variant": None, "width": 16, "depth": 2, "n_heads": 2, "patch": [81, 2], "fstride": 81, "tstride": 2}
    model = FewShotNetwork("ast", {**args, **SIZES, "pool": "avg"}).eval()
    whole = model(**episode())["query"]
    apply_patch(model)
    assert torch.equal(model(**episode())["query"], whole)
    set_r(model, 8)
    merged = model(**episode())["query"]
    assert merged.shape == whole.shape and not torch.equal(merged, whole)
    found, _ = loss(MergedTask(FewShot(), 8), model.train(), episode())
    found.backward()
    assert all(weights.grad is not None for name, weights in model.named_parameters() if "token" not in name)


def test_an_ast_without_classes_gives_embeddings():
    model = AST(None, width=16, depth=1, n_classes=0, n_mels=32, n_frames=32, fstride=16, tstride=16)
    assert model(torch.randn(2, 32, 32)).shape == (2, model.out_dim) and isinstance(model.mlp_head[1], nn.Identity)
