"""Threshold-consistent margin loss."""

from torch import Tensor

from oracles.rules import Term, Truth, relate, similarities, sum_of_means, weight_list


def threshold_consistent_margin(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    positive_margin: float = 0.9,
    negative_margin: float = 0.5,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """Mean of m+ - s over positives with s <= m+, and of s - m- over negatives with s >= m-, each times its weight."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))
    near, far = [], []
    for a in range(len(x)):
        near += [Term(w[a], positive_margin - s[a, p], 1.0) for p in matrix.positive[a] if s[a, p] <= positive_margin]
        far += [Term(w[a], s[a, n] - negative_margin, 1.0) for n in matrix.negative[a] if s[a, n] >= negative_margin]
    return sum_of_means(x, (positive_weight, near), (negative_weight, far))
