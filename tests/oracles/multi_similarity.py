"""Multi-similarity loss, with and without mining."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, in_batch, relate, similarities, weight_list


def multi_similarity(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = None,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """1/alpha log(1 + sum_p e^(-alpha (s - base))) + 1/beta log(1 + sum_n e^(beta (s - base))); all anchors count."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if not in_batch(labels, a):
            continue
        if epsilon is not None:
            near, far = s[a, N].detach(), s[a, P].detach()
            kept = [p for p in P if len(N) and s[a, p] - epsilon < near.max()]
            N = [n for n in N if len(P) and s[a, n] + epsilon > far.min()]
            P = kept
        attraction = _log1_sum(-alpha * (s[a, P] - base)) / alpha
        push = _log1_sum(beta * (s[a, N] - base)) / beta
        terms.append(Term(w[a], attraction + push, 1.0))
    return divide(terms, x)


def _log1_sum(exponents: Tensor) -> Tensor:
    """log(1 + sum e^z)."""
    return torch.logsumexp(torch.cat([exponents.new_zeros(1), exponents]), 0)
