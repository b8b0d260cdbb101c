"""Lifted structure loss."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, hinge, relate, unit, weight_list


def lifted_structure(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 1.0,
    geometry: str = "euclidean",
    normalise: bool = False,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """[d_ij + log(sum_k e^(m - d_ik) + sum_l e^(m - d_lj))]_+^2 / 2 over positive pairs; l are anchors."""
    matrix = relate(x, labels, **sides)
    x, references = (unit(y) if normalise else y for y in (x, matrix.references))
    d = distances(x, references, geometry)
    w = weight_list(weights, len(x))
    column = [[a for a in range(len(x)) if j in matrix.negative[a]] for j in range(len(references))]
    terms = []
    for i in range(len(x)):
        for j in matrix.positive[i]:
            negatives = [d[i, k] for k in matrix.negative[i]] + [d[a, j] for a in column[j]]
            if negatives:
                mass = torch.logsumexp(margin - torch.stack(negatives), 0)
                terms.append(Term(w[i], hinge(d[i, j] + mass) ** 2 / 2, 1.0))
    return divide(terms, x)
