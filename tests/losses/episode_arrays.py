"""Embeddings of random episodes, as the tests of the few-shot losses take them."""

import torch
from hypothesis import strategies as st
from torch.nn import functional as F

cases = st.fixed_dictionaries(
    {
        "n_episodes": st.integers(1, 3),
        "n_classes": st.integers(2, 4),
        "n_queries": st.integers(1, 4),
        "size": st.integers(1, 6),
        "seed": st.integers(0, 10**6),
    }
)


def draw(case, dtype=torch.float64):
    """Return queries (E, N, q, D) and prototypes (E, N, D) that lie near one another."""
    generator = torch.Generator().manual_seed(case["seed"])
    shape = case["n_episodes"], case["n_classes"], case["n_queries"], case["size"]
    prototypes = torch.randn(*shape[:2], shape[3], generator=generator, dtype=dtype)
    noise = torch.randn(shape, generator=generator, dtype=dtype)
    return prototypes[:, :, None] + 0.7 * noise, prototypes


def episodes(n_classes=5, n_queries=4, size=8, n_episodes=1, seed=0, unit=False):
    case = {"n_episodes": n_episodes, "n_classes": n_classes, "n_queries": n_queries, "size": size, "seed": seed}
    queries, prototypes = draw(case)
    return (F.normalize(queries, dim=-1), F.normalize(prototypes, dim=-1)) if unit else (queries, prototypes)


def labelled(queries, prototypes):
    """Return the first episode as a flat batch: queries, their labels, prototypes, their labels."""
    n_classes, n_queries = queries.shape[1:3]
    labels = torch.arange(n_classes)
    return queries[0].flatten(0, 1), labels.repeat_interleave(n_queries), prototypes[0], labels


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x):
    length = dot(x, x) ** 0.5
    return [a / length for a in x]
