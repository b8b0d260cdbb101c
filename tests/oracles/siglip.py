"""Sigmoid loss of pairs."""

from torch import Tensor

from oracles.rules import Term, Truth, divide, relate, similarities, softplus, weight_list


def siglip(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    scale: float | Tensor = 10.0,
    bias: float | Tensor = -10.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """-sum_j log sigmoid(z (t s + b)), z = 1 for positives and -1 for negatives; all anchors count."""
    matrix = relate(x, labels, **sides)
    logits = scale * similarities(x, matrix.references, "cosine") + bias
    w = weight_list(weights, len(x))
    terms = []
    for a in range(len(x)):
        own = [softplus(-logits[a, p]) for p in matrix.positive[a]]
        others = [softplus(logits[a, n]) for n in matrix.negative[a]]
        if labels is None or (labels[a].any() if labels.ndim == 2 else labels[a] != -1):
            terms.append(Term(w[a], sum(own + others, x[:0].sum()), 1.0))
    return divide(terms, x)
