"""Angular loss."""

import math

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, softplus, unit, weight_list


def angular(
    x: Tensor, labels: Tensor | None = None, *, angle: float = 0.7, weights: Tensor | None = None, **sides: Tensor
) -> Truth:
    """log(1 + sum_n e^(4 tan^2(a) (x_a + x_p) x_n - 2 (1 + tan^2(a)) x_a x_p)), over pairs whose anchor has an n."""
    matrix = relate(x, labels, **sides)
    mine, theirs = unit(x), unit(matrix.references)
    steep = math.tan(angle) ** 2
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        for p in matrix.positive[a] if matrix.negative[a] else []:
            both, own = mine[a] + theirs[p], 2 * (1 + steep) * mine[a] @ theirs[p]
            exponents = torch.stack([4 * steep * both @ theirs[n] - own for n in matrix.negative[a]])
            terms.append(Term(w[a], softplus(torch.logsumexp(exponents, 0)), 1.0))
    return divide(terms, x)
