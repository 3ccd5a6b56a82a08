"""Projection, relation and fusion heads against their descriptions."""

import pytest
import torch
from small_models import noise, randomise_

from tome_audio.models import ProjectionHead, RelationHead, ViewFusion


@torch.no_grad()
def test_a_projection_is_two_layers_and_of_length_1():
    head, x = randomise_(ProjectionHead(6, 9, 4)), noise(2, 3, 6)
    first, _, second = head.layers
    y = (x @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
    torch.testing.assert_close(head(x), y / y.square().sum(-1, keepdim=True).sqrt())
    assert head(x).shape == (2, 3, 4)


@torch.no_grad()
def test_a_relation_compares_every_query_with_every_prototype():
    head, queries, prototypes = randomise_(RelationHead(6)), noise(2, 7, 6), noise(2, 3, 6, seed=2)
    scores = head(queries, prototypes)
    assert scores.shape == (2, 7, 3)
    weights = list(head.parameters())
    assert [tuple(w.shape) for w in weights[::2]] == [(256, 12), (128, 256), (256, 128), (1, 256)]
    for e, i, k in ((0, 0, 0), (1, 6, 2), (1, 2, 0)):
        x = torch.cat([queries[e, i], prototypes[e, k]])
        for layer in range(4):
            x = weights[2 * layer] @ x + weights[2 * layer + 1]
            x = x.relu() if layer < 3 else 1 / (1 + (-x).exp())
        torch.testing.assert_close(scores[e, i, k], x[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head(queries[0], prototypes), head(queries[[0, 0]], prototypes))


def normalised(x, norm):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return x * norm.weight + norm.bias


@torch.no_grad()
@pytest.mark.parametrize("n_heads", [1, 2])
def test_a_fusion_is_one_post_norm_layer(n_heads):
    fusion, x = randomise_(ViewFusion(6, n_heads, ffn=10)), noise(3, 4, 6)
    layer = fusion.layer
    q, k, v = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, -1)
    split = [t.unflatten(-1, (n_heads, -1)).transpose(1, 2) for t in (q, k, v)]
    weights = (split[0] @ split[1].mT / (6 / n_heads) ** 0.5).softmax(-1)
    mixed = layer.self_attn.out_proj((weights @ split[2]).transpose(1, 2).flatten(2))
    y = normalised(x + mixed, layer.norm1)
    y = normalised(y + layer.linear2(layer.linear1(y).relu()), layer.norm2)
    torch.testing.assert_close(fusion(x), y.flatten(1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_views_only_orders_the_blocks():
    fusion, x, order = randomise_(ViewFusion(6)), noise(3, 4, 6), [2, 0, 3, 1]
    blocks = fusion(x).unflatten(1, (4, 6))
    torch.testing.assert_close(fusion(x[:, order]).unflatten(1, (4, 6)), blocks[:, order])
    assert not torch.allclose(blocks[:, 0], blocks[:, 1])
    changed = x.clone()
    changed[:, 3] += 1
    assert not torch.allclose(fusion(changed).unflatten(1, (4, 6))[:, 0], blocks[:, 0])


@pytest.mark.parametrize(
    ("build", "shapes"),
    [(lambda: ProjectionHead(6, 5, 4), [(3, 6)]), (lambda: RelationHead(6), [(4, 6), (3, 6)]),
     (lambda: ViewFusion(6), [(2, 4, 6)])],
)  # fmt: skip
def test_heads_learn_and_run_in_autocast(build, shapes):
    head, inputs = build(), [noise(*shape) for shape in shapes]
    head(*inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    head.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = head(*inputs)
    torch.testing.assert_close(cast.float(), head(*inputs), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProjectionHead(6, 5, 4)(noise(3, 7)), r"ProjectionHead was given embeddings of shape \(3, 7\) .* 6"),
        (lambda: RelationHead(6)(noise(3, 6), noise(6)), r"prototypes of shape \(6,\) .*2 axes"),
        (lambda: RelationHead(6)(noise(3, 5), noise(2, 6)), r"queries of shape \(3, 5\)"),
        (lambda: ViewFusion(6)(noise(3, 6)), r"views must be \(clips, views, 6\), got shape \(3, 6\)"),
        (lambda: ViewFusion(6, n_heads=4), "4 heads do not divide embeddings of size 6"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
