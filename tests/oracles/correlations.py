"""VICReg and Barlow Twins, feature by feature."""

import torch
from torch import Tensor

from oracles.rules import Truth, hinge, root, weight_list


def vicreg(
    x: Tensor,
    references: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
    weights: Tensor | None = None,
) -> Truth:
    """lambda mean of squared differences + mu [1 - deviation]+ / 2 + nu squared covariances, of both views."""
    w = _relative(weights, len(x))
    n, dim = sum(each > 0 for each in w), x.shape[1]
    if n < 2:
        return Truth(x[:0].sum() + references[:0].sum(), 0.0, {})
    apart = sum(w[i] * (x[i] - references[i]).square().sum() for i in range(len(x)))
    value = invariance * apart / (n * dim)
    for z in (x, references):
        c = _products(z, z, w)
        for j in range(dim):
            value = value + variance * hinge(1 - (c[j][j] / (n - 1) + eps).sqrt()) / (2 * dim)
            value = value + covariance * sum(((c[j][k] / (n - 1)) ** 2 for k in range(dim) if k != j), 0.0) / dim
    return Truth(value, 1.0, {})


def barlow_twins(x: Tensor, references: Tensor, *, redundancy: float = 0.0051, weights: Tensor | None = None) -> Truth:
    """(1 - C_jj)^2 + lambda C_jk^2, C the correlations of features of both views."""
    w = _relative(weights, len(x))
    if sum(each > 0 for each in w) < 2:
        return Truth(x[:0].sum() + references[:0].sum(), 0.0, {})
    mine, theirs, across = _products(x, x, w), _products(references, references, w), _products(x, references, w)
    value = x[:0].sum() + references[:0].sum()
    for j in range(x.shape[1]):
        for k in range(x.shape[1]):
            both = root(mine[j][j]) * root(theirs[k][k])
            c = across[j][k] / both if both > 0 else 0.0
            value = value + ((1 - c) ** 2 if j == k else redundancy * c**2)
    return Truth(value, 1.0, {})


def _relative(weights: Tensor | None, rows: int) -> list[float]:
    w = weight_list(weights, rows)
    there = sum(each > 0 for each in w)
    return [each * there / sum(w) if there else 0.0 for each in w]


def _products(x: Tensor, y: Tensor, w: list[float]) -> list[list[Tensor]]:
    """Weighted sums of the products of deviations from the means."""
    each, total = torch.tensor(w, dtype=x.dtype), sum(w)
    a, b = (z - (each[:, None] * z).sum(0) / total for z in (x, y))
    return [[(each * a[:, j] * b[:, k]).sum() for k in range(y.shape[1])] for j in range(x.shape[1])]
