"""Tuplet margin loss."""

import math

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, root, similarities, softplus, weight_list


def tuplet_margin(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.1,
    scale: float = 64.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """log(1 + sum_n e^(s (cos(an) - cos(angle(ap) - b)))), over the positive pairs whose anchor has a negative."""
    matrix = relate(x, labels, **sides)
    cosine = similarities(x, matrix.references, "cosine")
    square = 1 - cosine.square()
    sine = root(torch.where(square > 1e-14, square, 0.0))  # parallel up to rounding: no direction, no gradient
    slack = cosine * math.cos(margin) + sine * math.sin(margin)
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        for p in matrix.positive[a] if matrix.negative[a] else []:
            exponents = torch.stack([scale * (cosine[a, n] - slack[a, p]) for n in matrix.negative[a]])
            terms.append(Term(w[a], softplus(torch.logsumexp(exponents, 0)), 1.0))
    return divide(terms, x)
