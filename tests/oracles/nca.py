"""Neighbourhood components analysis, in its logarithmic form."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, weight_list


def nca(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    scale: float = 1.0,
    geometry: str = "squared_euclidean",
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """-log sum_p p_ap with p_aj = e^(s_aj) / sum_k e^(s_ak), s = -scale D. Anchors without a positive do not count."""
    matrix = relate(x, labels, **sides)
    s = scale * similarities(x, matrix.references, geometry)
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        P, gathered = matrix.positive[a], sorted(matrix.positive[a] + matrix.negative[a])
        if P:
            log_probability = torch.log_softmax(s[a, gathered], 0)
            own = [gathered.index(p) for p in P]
            terms.append(Term(w[a], -torch.logsumexp(log_probability[own], 0), 1.0))
    return divide(terms, x)
