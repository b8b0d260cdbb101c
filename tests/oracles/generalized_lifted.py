"""Generalised lifted structure loss."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, hinge, relate, unit, weight_list


def generalized_lifted(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 1.0,
    geometry: str = "euclidean",
    normalise: bool = False,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """[log sum_p sum_n e^(D_ap + m - D_an)]_+, the product multiplied out; anchors with both a p and an n."""
    matrix = relate(x, labels, **sides)
    x, references = (unit(y) if normalise else y for y in (x, matrix.references))
    d = distances(x, references, geometry)
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P and N:
            exponents = torch.stack([d[a, p] + margin - d[a, n] for p in P for n in N])
            terms.append(Term(w[a], hinge(torch.logsumexp(exponents, 0)), 1.0))
    return divide(terms, x)
