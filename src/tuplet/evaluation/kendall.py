"""Kendall's tau-b of pairs that are there several times, for many resamples at once.

Two items are discordant if one list has them in the other order than the other: an inversion of the permutation that
leads from one order to the other. Cut into about sqrt(n) blocks by the one order and as many by the other, pairs in
different blocks of both are counted by sums over blocks; what shares a block is counted by a matrix that is the same
for every resample, so that one product serves all of them: n sqrt(n) multiplications a resample, and nothing is sorted.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_AT_ONCE = 1 << 21  # numbers of a matrix of blocks


class Kendall:
    """Tau-b of two lists, whose items are then weighed.

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
        for start in range(0, len(blocks), step := max(1, _AT_ONCE // width**2)):
            part = slice(start, start + step)
            inverted = (numbers[part, :, None] > numbers[part, None, :]) & earlier
            if kinds is not None:
                inverted &= kinds[part, :, None] != kinds[part, None, :]
            found += ((inverted.to(few) @ blocks[part].to(few)).double() * blocks[part]).sum((0, 1))
        return found


def _pairs(sizes: Float[Tensor, "groups draws"]) -> Float[Tensor, " draws"]:
    """Number of pairs within groups."""
    return (sizes * (sizes - 1) / 2).sum(0)
