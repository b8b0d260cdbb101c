"""Decoupled contrastive learning: negatives alone in the sum."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, weight_list


def decoupled_contrastive(
    x: Tensor,
    ids: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.1,
    weighted: bool = False,
    sigma: float = 0.5,
    weights: Tensor | None = None,
    references: Tensor | None = None,
    **queue: Tensor,
) -> Truth:
    """lse of the negatives minus the mean of w s over the positives; two sets are joined, row i belongs to row i."""
    if references is not None:
        ids = torch.arange(len(x)).repeat(2)
        weights = None if weights is None else torch.cat([weights, weights])
        x = torch.cat([x, references])
    matrix = relate(x, ids, **queue)
    s = similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))
    masses = [(w[a], (s[a, p] / sigma).exp()) for a in range(len(x)) for p in matrix.positive[a] if w[a]]
    expected = sum(weight * mass for weight, mass in masses) / sum(weight for weight, _ in masses) if masses else 1
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P and N:
            factor = 2 - (s[a, P] / sigma).exp() / expected if weighted else torch.ones_like(s[a, P])
            terms.append(
                Term(w[a], torch.logsumexp(s[a, N] / temperature, 0) - (factor * s[a, P]).mean() / temperature, 1)
            )
    return divide(terms, x)
