"""Rank correlation: from scipy, and of many resamples at once."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from tuplet.errors import ShapeError
from tuplet.evaluation.bootstrap import class_draws
from tuplet.evaluation.inputs import Arrays, as_tensor, scientific

_AT_ONCE = 64
"""Resamples whose pairs are weighed together."""
_BLOCK_NUMBERS = 1 << 21  # of a matrix of blocks


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


class Kendall:
    """Tau-b of two lists whose items are there several times, for many resamples at once.

    Two items are discordant if one list has them in the other order than the other: an inversion of the permutation
    that leads from one order to the other. Cut into about sqrt(n) blocks by the one order and as many by the other,
    pairs in different blocks of both are counted by sums over blocks; what shares a block is counted by a matrix that
    is the same for every resample: n sqrt(n) multiplications a resample, and nothing is sorted.

    Args:
        first: Place of each item's number among the different numbers, from 0.
        second: The same of its other number.
    """

    def __init__(self, first: Int64[Tensor, " items"], second: Int64[Tensor, " items"]) -> None:
        count = len(first)
        self._codes = (first, second, first * (int(second.max()) + 1) + second)
        order = (first * (int(second.max()) + 1) + second).argsort(stable=True)
        self._order = order
        place = torch.empty_like(order)  # of each item of `order` by the second list; ties are in order
        place[second[order].argsort(stable=True)] = torch.arange(count)
        self._place = place
        self._block = max(1, math.isqrt(count))

    def taus(self, weights: Float[Tensor, "items draws"]) -> Float[Tensor, " draws"]:
        """Tau-b where each item is there as often as a column says; NaN where either list is constant.

        Args:
            weights: Whole numbers, one column for each resample.
        """
        total = _pairs(weights.sum(0, keepdim=True))
        tied = []
        for codes in self._codes:
            distinct, at = torch.unique(codes, return_inverse=True)
            tied.append(_pairs(weights.new_zeros(len(distinct), weights.shape[1]).index_add_(0, at, weights)))
        inverted = self._inversions(weights[self._order])
        agreeing = total - tied[0] - tied[1] + tied[2] - 2 * inverted
        return agreeing / ((total - tied[0]).sqrt() * (total - tied[1]).sqrt())

    def _inversions(self, weights: Tensor) -> Tensor:
        """Weight of the pairs whose earlier item has the later place."""
        count, draws = weights.shape
        blocks = -(-count // self._block)
        mine, theirs = torch.arange(count) // self._block, self._place // self._block
        sums = weights.new_zeros(blocks * blocks, draws).index_add_(0, mine * blocks + theirs, weights)
        sums = sums.view(blocks, blocks, draws)
        before = sums.cumsum(0) - sums  # in earlier blocks
        beyond = before.flip(1).cumsum(1).flip(1) - before  # with later places
        found = (sums * beyond).sum((0, 1))
        found += self._inside(weights, self._place, None)
        # The same among items whose places share a block; those that share both are counted already.
        by_place = self._place.argsort()
        return found + self._inside(weights[by_place], by_place, mine[by_place])

    def _inside(self, weights: Tensor, other: Tensor, apart: Tensor | None) -> Tensor:
        """Weight of the pairs within blocks whose earlier item has the larger number, if `apart` tells them apart."""
        width, draws = self._block, weights.shape[1]
        missing = -len(weights) % width
        blocks = torch.nn.functional.pad(weights, (0, 0, 0, missing)).view(-1, width, draws)
        numbers = torch.nn.functional.pad(other, (0, missing), value=len(other)).view(-1, width)
        kinds = None if apart is None else torch.nn.functional.pad(apart, (0, missing)).view(-1, width)
        found = weights.new_zeros(draws)
        # Whole numbers below 2 ** 24 add up exactly in half the time.
        few = torch.float32 if float(weights.max()) * width < 1 << 24 else torch.float64
        earlier = torch.ones(width, width, dtype=torch.bool).triu(1)
        for start in range(0, len(blocks), step := max(1, _BLOCK_NUMBERS // width**2)):
            part = slice(start, start + step)
            inverted = (numbers[part, :, None] > numbers[part, None, :]) & earlier
            if kinds is not None:
                inverted &= kinds[part, :, None] != kinds[part, None, :]
            found += ((inverted.to(few) @ blocks[part].to(few)).double() * blocks[part]).sum((0, 1))
        return found


def _pairs(sizes: Float[Tensor, "groups draws"]) -> Float[Tensor, " draws"]:
    """Number of pairs within groups."""
    return (sizes * (sizes - 1) / 2).sum(0)
