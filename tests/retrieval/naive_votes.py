"""Votes as their definition says, in float64 and loops."""

from __future__ import annotations

import numpy as np


def naive_normalised(similarities):
    """Similarities (Q, V, N) in deviations from what a query has with all rows and 50 usual ones."""
    made = np.empty_like(similarities)
    for query, variants in enumerate(similarities):
        for variant, row in enumerate(variants):
            n = len(row) + 50
            mean = (sum(row) + 50 * 0.36) / n
            square = (sum(value**2 for value in row) + 50 * (0.36**2 + 0.11**2)) / n
            made[query, variant] = (row - mean) / np.sqrt(square - mean**2)
    return made


def naive_score(similarities, starts, n_windows, reach):
    """Score, variant and row of one track from similarities (Q, V, R)."""
    n_queries, n_variants, n_rows = similarities.shape
    best = (-np.inf, -1, -1)
    for row in range(n_rows):
        near = [other for other in range(n_rows) if abs(starts[other] - starts[row]) <= reach + 1e-6]
        for variant in range(n_variants):
            votes = sorted((max(similarities[q, variant, o] for o in near) for q in range(n_queries)), reverse=True)
            kept = votes[:n_windows]
            score = sum(kept) / len(kept)
            if score > best[0] + 1e-12:
                best = (score, variant, row)
    return best
