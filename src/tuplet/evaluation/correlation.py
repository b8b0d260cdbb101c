"""Rank correlation, from scipy."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from tuplet.errors import ShapeError
from tuplet.evaluation.bootstrap import class_draws
from tuplet.evaluation.extras import scientific
from tuplet.evaluation.inputs import Arrays, as_tensor
from tuplet.evaluation.kendall import Kendall

_AT_ONCE = 64
"""Resamples whose pairs are weighed together."""


def rank_correlation(first: Num[Tensor, " pairs"] | Arrays, second: Num[Tensor, " pairs"] | Arrays) -> dict[str, float]:
    """Spearman's rho and Kendall's tau-b of two lists of numbers.

    Args:
        first: One number per item.
        second: Another number per item.

    Returns:
        `spearman` and `kendall`; NaN if there are fewer than two items or either list is constant.

    Raises:
        MissingExtraError: If scipy is not installed.
        ShapeError: If the lists are not of one length.
    """
    u, v = (as_tensor(part, "lists of numbers").detach().cpu().double().numpy() for part in (first, second))
    if u.ndim != 1 or u.shape != v.shape:
        raise ShapeError(
            f"Rank correlation of shapes {u.shape} and {v.shape}; two lists of the same length are expected.",
            hint="Pass one number per item in each list.",
            reference="no-tensor",
        )
    return {"spearman": spearman(u, v), "kendall": _correlate(u, v, "kendalltau")}


def resampled_correlations(
    first: Float[Tensor, " pairs"],
    second: Float[Tensor, " pairs"],
    members: Int64[Tensor, "pairs sides"],
    rows: int,
    draws: int,
    seed: int,
) -> Iterator[dict[str, float]]:
    """The same in resamples of the rows that pairs are made of; a pair counts once for each time that its rows meet.

    Args:
        first: One number per pair.
        second: Another number per pair.
        members: The rows of each pair that are drawn: both, or one if the other side is fixed.
        rows: How many rows there are.
        draws: How many resamples.
        seed: Of the resamples.

    Yields:
        `spearman` and `kendall` of one resample.
    """
    codes = [torch.unique(values, return_inverse=True)[1] for values in (first, second)]
    ranked = [part.numpy() for part in codes]
    tau = Kendall(codes[0], codes[1]) if draws else None
    for some in class_draws(rows, draws, seed):
        for part in torch.split(some, _AT_ONCE):
            weights = part[:, members].prod(2).T.contiguous()  # (pairs, draws)
            taus = [] if tau is None else tau.taus(weights).tolist()
            for column, kendall in zip(weights.T.numpy(), taus, strict=True):
                yield {"spearman": weighted_spearman(ranked[0], ranked[1], column), "kendall": kendall}


def spearman(u: np.ndarray, v: np.ndarray) -> float:
    """Spearman's rho; NaN if there are fewer than two items or either list is constant."""
    return _correlate(u, v, "spearmanr")


def weighted_spearman(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """Spearman's rho of items that are there several times, without listing them: nothing is sorted.

    Args:
        first: Place of each item's number among the different numbers, from 0.
        second: The same of its other number.
        weights: How often each item is there.
    """
    ranks = []
    for codes in (first, second):
        sizes = np.bincount(codes, weights)  # how often each number is there
        if (sizes > 0).sum() < 2:  # fewer than two different numbers
            return math.nan
        ranks.append((sizes.cumsum() - sizes / 2 + 0.5)[codes])  # the mean rank of equal numbers
    total = weights.sum()
    u, v = (rank - (rank * weights).sum() / total for rank in ranks)
    spread = (weights * u * u).sum() * (weights * v * v).sum()
    return float((weights * u * v).sum() / math.sqrt(spread))


def _correlate(u: np.ndarray, v: np.ndarray, kind: str) -> float:
    measure = getattr(scientific("scipy.stats"), kind)
    if len(u) < 2 or (u == u[0]).all() or (v == v[0]).all():
        return math.nan
    return float(measure(u, v).statistic)
