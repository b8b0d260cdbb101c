"""Margin loss."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, hinge, in_batch, relate, unit, weight_list


def margin(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.2,
    beta: float | Tensor = 1.2,
    nu: float = 0.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """sum over (a, p, n) of [D_ap - b + m]_+ + [b - D_an + m]_+, over the terms above 0; plus nu times the mean b."""
    matrix = relate(x, labels, **sides)
    d = distances(unit(x), unit(matrix.references), "euclidean")
    w = weight_list(weights, len(x))
    boundary = torch.as_tensor(beta, dtype=x.dtype)
    terms, boundaries = [], []
    for a in range(len(x)):
        b = boundary[labels[a]] if boundary.ndim else boundary
        if in_batch(labels, a):
            boundaries.append((w[a], b))
        for p in matrix.positive[a]:
            for n in matrix.negative[a]:
                both = d[a, p] - b + margin, b - d[a, n] + margin
                terms += [Term(w[a], hinge(z), float(z > 0)) for z in both]
    truth = divide(terms, x)
    mass = sum(each for each, _ in boundaries)
    if nu == 0 or mass == 0 or truth.count == 0:
        return truth
    return truth._replace(value=truth.value + nu * sum(each * b for each, b in boundaries) / mass)
