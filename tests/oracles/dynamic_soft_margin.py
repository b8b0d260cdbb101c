"""Dynamic soft margin loss."""

import math

from torch import Tensor

from oracles.rules import Term, Truth, distances, divide, relate, unit, weight_list


def dynamic_soft_margin(
    x: Tensor,
    labels: Tensor | None = None,
    *,
    bins: int = 512,
    momentum: float = 0.01,
    histogram: Tensor | None = None,
    weights: Tensor | None = None,
    **sides: Tensor,
) -> Truth:
    """F(z) z with z = d_ij - the least of d_ik and d_lj over negatives; F is the share of differences up to z."""
    matrix = relate(x, labels, **sides)
    d = distances(unit(x), unit(matrix.references), "euclidean")
    w = weight_list(weights, len(x))
    column = [[a for a in range(len(x)) if j in matrix.negative[a]] for j in range(len(matrix.references))]
    found = []
    for i in range(len(x)):
        for j in matrix.positive[i]:
            negatives = [d[i, k] for k in matrix.negative[i]] + [d[a, j] for a in column[j]]
            if negatives:
                found.append((w[i], d[i, j] - min(negatives)))
    shares = [0.0] * (bins + 1)
    mass = sum(weight for weight, _ in found)
    for weight, z in found if mass else []:
        node, part = _place(z, bins)
        shares[node] += weight * (1 - part) / mass
        shares[node + 1] += weight * part / mass
    if histogram is not None and histogram.sum() > 0:
        shares = [(1 - momentum) * old + momentum * new for old, new in zip(histogram.tolist(), shares, strict=True)]
    return divide([Term(weight, sum(shares[: _place(z, bins)[0] + 1]) * z, 1.0) for weight, z in found], x)


def _place(z: Tensor, bins: int) -> tuple[int, float]:
    place = (z.item() + 2) * bins / 4
    node = min(max(math.floor(place), 0), bins - 1)
    return node, place - node
