"""SmoothAP."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, weight_list


def smooth_ap(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 0.01,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """1 - mean over positives p of (1 + positives before p) / (1 + all before p), with sigmoids for "before"."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine") / temperature
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        ratios = []
        for p in P:
            before = {j: torch.sigmoid(s[a, j] - s[a, p]) for j in P + N if j != p}
            ratios.append((1 + sum(before[j] for j in P if j != p)) / (1 + sum(before.values())))
        if P:
            terms.append(Term(w[a], 1 - sum(ratios) / len(P) + x[:0].sum(), 1.0))
    return divide(terms, x)
