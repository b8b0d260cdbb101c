"""NT-Xent: each of the 2N views against all the others, its twin is the only positive."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, similarities, weight_list


def nt_xent(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    geometry: str = "cosine",
    weights: Tensor | None = None,
) -> Truth:
    """-log e^(s_ij) / sum_{k != i} e^(s_ik), mean over the 2N views; a single pair has no negative and gives 0."""
    views, n = torch.cat([a, b]), len(a)
    s = similarities(views, views, geometry) / temperature
    w = weight_list(weights, n) * 2
    terms = []
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        terms.append(Term(w[i], torch.logsumexp(s[i, others], 0) - s[i, (i + n) % (2 * n)], 1.0))
    return divide(terms, views)
