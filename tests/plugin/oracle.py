"""The loss of the plug-in once more, as loops."""

import torch
from torch import Tensor

import oracles
from oracles.rules import Term, Truth, distances, divide, relate, softplus, weight_list


def soft_lifted(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 1.0,
    geometry: str = "squared_euclidean",
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """log(1 + e^m sum_p e^(D_ap) sum_n e^(-D_an)), mean over the anchors with a positive and a negative."""
    matrix = relate(x, labels, **sides)
    d = distances(x, matrix.references, geometry)
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P and N:
            exponents = torch.stack([margin + d[a, p] - d[a, n] for p in P for n in N])
            terms.append(Term(w[a], softplus(torch.logsumexp(exponents, 0)), 1.0))
    return divide(terms, x)


oracles.soft_lifted = soft_lifted  # where the battery looks
