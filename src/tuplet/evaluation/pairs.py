"""Pairs of rows by number, so that a few of very many can be sampled without listing the rest; and their scores."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, pair_scores, unit_rows
from tuplet.seeding import derive
from tuplet.types import GeometryName

_LISTED = 1 << 24  # up to here a random order of all numbers is drawn


def distinct_integers(below: int, count: int, generator: torch.Generator) -> Int64[Tensor, " sampled"]:
    """`count` different numbers from 0 to `below - 1`, in ascending order; all of them if there are no more."""
    if count >= below:
        return torch.arange(below)
    if below <= _LISTED:
        return torch.randperm(below, generator=generator)[:count].sort().values
    sampled = torch.empty(0, dtype=torch.int64)
    while len(sampled) < count:
        more = torch.randint(below, (count + count // 4,), generator=generator)
        sampled = torch.unique(torch.cat([sampled, more]))
    return sampled[torch.randperm(len(sampled), generator=generator)[:count]].sort().values


def pairs_at(
    numbers: Int64[Tensor, " pairs"], partners: Int64[Tensor, " rows"]
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Pair n of a list in which row 0 comes with each of its partners first, then row 1, and so on.

    Args:
        numbers: Which pairs.
        partners: How many partners each row has.

    Returns:
        The row, and which of its partners, from 0.
    """
    ends = partners.cumsum(0)
    row = torch.searchsorted(ends, numbers, right=True)
    return row, numbers - (ends - partners)[row]


def unordered_pairs(
    rows: int, most: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """All pairs i < j of some rows, or `most` of them drawn at random."""
    partners = torch.arange(rows - 1, -1, -1)
    first, partner = pairs_at(distinct_integers(rows * (rows - 1) // 2, most, generator), partners)
    return first, first + 1 + partner


def product_pairs(
    rows: int, others: int, most: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """All pairs of a row and another set's row, or `most` of them drawn at random."""
    return pairs_at(distinct_integers(rows * others, most, generator), torch.full((rows,), others))


def sample_pairs(
    labels: Int64[Tensor, " rows"], most: int, seed: int
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"], Bool[Tensor, " pairs"], dict[str, int]]:
    """Pairs of rows of one class and of two.

    Args:
        labels: Class of each row.
        most: Pairs at most, half of them of one class if there are enough.
        seed: Of the sample.

    Returns:
        First and second rows, whether they are of one class, and how many pairs of either kind there are.
    """
    order = labels.argsort(stable=True)
    behind = torch.arange(len(labels) - 1, -1, -1)
    _, codes, sizes = torch.unique_consecutive(labels[order], return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0)[codes]  # in the order of labels, the partners of one class come first
    same = ends - 1 - torch.arange(len(labels))
    available = {"n_same_available": int(same.sum()), "n_different_available": int((behind - same).sum())}
    count_same, count_different = available.values()
    count_same = min(count_same, max(most // 2, most - count_different))
    numbers = distinct_integers(int(same.sum()), count_same, derive(seed, "same pairs"))
    first, partner = pairs_at(numbers, same)
    numbers = distinct_integers(count_different, most - count_same, derive(seed, "different pairs"))
    third, stranger = pairs_at(numbers, behind - same)
    one, other = torch.cat([first, third]), torch.cat([first + 1 + partner, ends[third] + stranger])
    return order[one], order[other], torch.arange(len(one)) < count_same, available


def scores_of(
    left: Float[Tensor, "rows dim"],
    first: Int64[Tensor, " pairs"],
    right: Float[Tensor, "others dim"],
    second: Int64[Tensor, " pairs"],
    geometry: GeometryName,
) -> Float[Tensor, " pairs"]:
    """Score of each pair, a few at a time; on the CPU."""
    if geometry == "cosine":  # a row is in many pairs and measured once
        alike = right is left
        left = unit_rows(left)
        right, geometry = left if alike else unit_rows(right), "dot"
    size = SEARCH_TILE // (16 * left.shape[1])
    parts = [
        pair_scores(left[first[part].to(left.device)], right[second[part].to(right.device)], geometry).cpu()
        for part in spans(len(first), size)
    ]
    return torch.cat(parts).detach()
