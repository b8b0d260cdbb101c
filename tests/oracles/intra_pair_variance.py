"""Intra-pair variance loss."""

from torch import Tensor

from oracles.rules import Term, Truth, divide, hinge, relate, similarities, sum_of_means, weight_list


def intra_pair_variance(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    positive_slack: float = 0.01,
    negative_slack: float = 0.01,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """Means of [(1 - e) mu+ - s]_+^2 over positives and of [s - (1 + e) mu-]_+^2 over negatives; mu are mean scores."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))
    positives = [(a, p) for a in range(len(x)) for p in matrix.positive[a]]
    negatives = [(a, n) for a in range(len(x)) for n in matrix.negative[a]]
    near, far = (divide([Term(w[a], s[a, r], 1.0) for a, r in of], x).value for of in (positives, negatives))
    below = [Term(w[a], hinge((1 - positive_slack) * near - s[a, p]) ** 2, 1.0) for a, p in positives]
    above = [Term(w[a], hinge(s[a, n] - (1 + negative_slack) * far) ** 2, 1.0) for a, n in negatives]
    return sum_of_means(x, (1.0, below), (1.0, above))
