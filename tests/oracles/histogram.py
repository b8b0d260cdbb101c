"""Histogram loss."""

from torch import Tensor

from oracles.rules import Truth, hinge, relate, similarities, weight_list


def histogram(
    x: Tensor, labels: Tensor | None = None, *, bins: int = 100, weights: Tensor | None = None, **sides: Tensor
) -> Truth:
    """sum_r h-_r sum_(q <= r) h+_q, with triangular shares of pairs at the nodes -1 + 2 r / bins."""
    matrix = relate(x, labels, **sides)
    s = similarities(x, matrix.references, "cosine")
    w = weight_list(weights, len(x))

    def density(of: list[list[int]]) -> list[Tensor] | None:
        pairs = [(w[a], s[a, r]) for a in range(len(x)) for r in of[a] if w[a]]
        mass = sum(weight for weight, _ in pairs)
        if not mass:
            return None
        nodes = [-1 + 2 * r / bins for r in range(bins + 1)]
        return [sum(weight * hinge(1 - (score - t).abs() * bins / 2) for weight, score in pairs) / mass for t in nodes]

    near, far = density(matrix.positive), density(matrix.negative)
    if near is None or far is None:
        return Truth(x[:0].sum(), 0.0, {})
    value, before = x[:0].sum(), x[:0].sum()
    for positives, negatives in zip(near, far, strict=True):
        before = before + positives
        value = value + negatives * before
    return Truth(value, 1.0, {})
