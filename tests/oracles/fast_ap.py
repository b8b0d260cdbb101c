"""FastAP."""

from torch import Tensor

from oracles.rules import Term, Truth, divide, hinge, relate, similarities, weight_list


def fast_ap(
    x: Tensor, labels: Tensor | None = None, *, bins: int = 10, weights: Tensor | None = None, **sides: Tensor
) -> Truth:
    """1 - sum_b h+_b H+_b / H_b / |P|, with triangular bins of the squared distance of unit vectors."""
    matrix = relate(x, labels, **sides)
    d = 2 - 2 * similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))
    width = 4 / bins
    terms = []
    for a in range(len(x)):
        P, N = matrix.positive[a], matrix.negative[a]
        if not P:
            continue
        ap, positives, gathered = x[:0].sum(), x[:0].sum(), x[:0].sum()
        for b in range(bins + 1):
            share = {j: hinge(1 - (d[a, j] - b * width).abs() / width) for j in P + N}
            here = sum(share[p] for p in P)
            positives, gathered = positives + here, gathered + sum(share.values())
            if gathered > 0:
                ap = ap + here * positives / gathered
        terms.append(Term(w[a], 1 - ap / len(P), 1.0))
    return divide(terms, x)
