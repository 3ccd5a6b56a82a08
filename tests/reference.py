"""The patched encoder once more, in NumPy float64 with Python loops: slow, plain, and independent of the library."""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def gelu(x):
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(x, q, k, v, n_heads, sizes):
    """One clip (N, C): softmax(q k^T / sqrt(d) + log size of the key) v, head by head."""
    width = q.shape[-1] // n_heads
    out = np.zeros_like(q)
    for head in range(n_heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width) + np.log(sizes)[None, :]
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, part] = weights / weights.sum(-1, keepdims=True) @ v[:, part]
    return out


def match(metric, r, n_prefix):
    """Return [(source, target)] for one clip: the r most similar pairs of even and odd tokens behind the prefix."""
    even = range(n_prefix, len(metric), 2)
    odd = range(n_prefix + 1, len(metric), 2)
    candidates = []
    for a in even:
        best, partner = -math.inf, None
        for b in odd:
            cosine = metric[a] @ metric[b] / (np.linalg.norm(metric[a]) * np.linalg.norm(metric[b]))
            if cosine > best:
                best, partner = cosine, b
        candidates.append((-best, a, partner))
    return [(a, b) for _, a, b in sorted(candidates)[:r]]


def match_ward(metric, sizes, r, n_prefix):
    """Return [(source, target)] like `match`, the pairs first that add least to sqrt(s t / (s + t)) (1 - cosine)."""
    candidates = []
    for a in range(n_prefix, len(metric), 2):
        best, partner = math.inf, None
        for b in range(n_prefix + 1, len(metric), 2):
            cosine = metric[a] @ metric[b] / (np.linalg.norm(metric[a]) * np.linalg.norm(metric[b]))
            added = math.sqrt(sizes[a] * sizes[b] / (sizes[a] + sizes[b])) * (1 - cosine)
            if added < best:
                best, partner = added, b
        candidates.append((best, a, partner))
    return [(a, b) for _, a, b in sorted(candidates)[:r]]


def merge(x, sizes, pairs):
    """Return the size-weighted means, in the order of the tokens that stay."""
    groups = {token: [token] for token in range(len(x)) if token not in {source for source, _ in pairs}}
    for source, target in pairs:
        groups[target].append(source)
    merged, totals = [], []
    for members in groups.values():
        total = sum(sizes[m] for m in members)
        merged.append(sum(x[m] * sizes[m] for m in members) / total)
        totals.append(total)
    return np.array(merged), np.array(totals)


def head_mean(x, n_heads):
    return x.reshape(len(x), n_heads, -1).mean(1)


def pre_norm_encoder(blocks, x, schedule, *, n_heads, n_prefix, metric, prop_attn, sizes=None, matching="bipartite"):
    """Run timm blocks (a list of float64 state dicts) on one clip (N, C); return tokens and sizes after each block."""
    sizes = np.ones(len(x)) if sizes is None else sizes
    history = []
    for w, wanted in zip(blocks, schedule, strict=True):
        normed = layer_norm(x, w["norm1.weight"], w["norm1.bias"], 1e-6)
        q, k, v = np.split(normed @ w["attn.qkv.weight"].T + w["attn.qkv.bias"], 3, axis=-1)
        out = attention(normed, q, k, v, n_heads, sizes if prop_attn else np.ones_like(sizes))
        x = x + out @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        chosen = {"key": head_mean(k, n_heads), "value": head_mean(v, n_heads), "hidden": x}[metric]
        r = min(wanted, (len(x) - n_prefix) // 2)
        pairs = match(chosen, r, n_prefix) if matching == "bipartite" else match_ward(chosen, sizes, r, n_prefix)
        x, sizes = merge(x, sizes, pairs)
        hidden = gelu(
            layer_norm(x, w["norm2.weight"], w["norm2.bias"], 1e-6) @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
        )
        x = x + hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
        history.append((x, sizes))
    return history


def post_norm_encoder(blocks, x, schedule, *, n_heads, n_prefix, metric, prop_attn):
    """Run KWT blocks (a list of float64 state dicts) on one clip (N, C); return tokens and sizes after each block."""
    sizes = np.ones(len(x))
    history = []
    for w, wanted in zip(blocks, schedule, strict=True):
        q, k, v = (x @ w[f"attn.{name}.weight"].T for name in "qkv")
        out = attention(x, q, k, v, n_heads, sizes if prop_attn else np.ones_like(sizes))
        x = layer_norm(
            x + out @ w["attn.proj.weight"].T + w["attn.proj.bias"], w["norm1.weight"], w["norm1.bias"], 1e-6
        )
        chosen = {"key": head_mean(k, n_heads), "value": head_mean(v, n_heads), "hidden": x}[metric]
        r = min(wanted, (len(x) - n_prefix) // 2)
        x, sizes = merge(x, sizes, match(chosen, r, n_prefix))
        hidden = gelu_tanh(x @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"])
        x = layer_norm(x + hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"], w["norm2.weight"], w["norm2.bias"], 1e-6)
        history.append((x, sizes))
    return history
