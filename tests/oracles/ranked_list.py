"""Ranked list loss."""

from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, in_batch, relate, unit, weight_list


def ranked_list(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.4,
    alpha: float = 1.2,
    positive_scale: float = 0.0,
    negative_scale: float = 10.0,
    balance: float = 0.5,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """Weighted means of D - (alpha - m) over positives and of alpha - D over negatives, where these are above 0."""
    matrix = relate(x, labels, **sides)
    d = distances(unit(x), unit(matrix.references), "euclidean")
    w = weight_list(weights, len(x))

    def mean(violations: list[Tensor], scale: float) -> Tensor:
        violations = [z for z in violations if z > 0]
        mass = sum((scale * z).exp() for z in violations)
        return sum((scale * z).exp() * z for z in violations) / mass if violations else x[:0].sum()

    terms = []
    for a in [row for row in range(len(x)) if in_batch(labels, row)]:
        near = mean([d[a, p] - (alpha - margin) for p in matrix.positive[a]], positive_scale)
        far = mean([alpha - d[a, n] for n in matrix.negative[a]], negative_scale)
        terms.append(Term(w[a], (1 - balance) * near + balance * far, 1.0))
    return divide(terms, x)
