"""PNP."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, weight_list


def pnp(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    variant: str = "Dq",
    temperature: float = 0.01,
    alpha: float = 4.0,
    b: float = 2.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """Mean over positives p of f(sum_n sigmoid((s_n - s_p) / tau))."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine") / temperature
    w = weight_list(weights, len(x))
    penalties = {
        "O": lambda R: R,
        "Iu": lambda R: (1 + R) * torch.log(1 + R),
        "Ib": lambda R: (b * R - torch.log(1 + b * R)) / b**2,
        "Ds": lambda R: torch.log(1 + R),
        "Dq": lambda R: 1 - 1 / (1 + R) ** alpha,
    }
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P:
            before = [x[:0].sum() + sum(torch.sigmoid(s[a, n] - s[a, p]) for n in N) for p in P]
            terms.append(Term(w[a], sum(penalties[variant](R) for R in before) / len(P), 1.0))
    return divide(terms, x)
