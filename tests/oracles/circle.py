"""Circle loss; its paces are constants in the gradient."""

import torch
from torch import Tensor

from oracles.rules import Term, Truth, divide, hinge, relate, similarities, softplus, weight_list


def circle(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.4,
    gamma: float = 80.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """log(1 + sum_n e^(gamma a_n (s_n - m)) sum_p e^(-gamma a_p (s_p - 1 + m))); anchors with both a p and an n."""
    matrix = relate(embeddings, labels, **sides)
    s = similarities(embeddings, matrix.references, "cosine")
    w = weight_list(weights, len(embeddings))
    terms = []
    for a in range(len(embeddings)):
        P, N = matrix.positive[a], matrix.negative[a]
        if P and N:
            near = [-gamma * hinge(1 + margin - s[a, p].detach()) * (s[a, p] - (1 - margin)) for p in P]
            far = [gamma * hinge(s[a, n].detach() + margin) * (s[a, n] - margin) for n in N]
            products = torch.stack([x + y for x in near for y in far])  # of the two sums, multiplied out
            terms.append(Term(w[a], softplus(torch.logsumexp(products, 0)), 1.0))
    return divide(terms, embeddings)
