"""Pairs of rows by number, so that a few of very many can be drawn without listing the rest."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, pair_scores, unit_rows
from tuplet.types import GeometryName

_LISTED = 1 << 24  # up to here a random order of all numbers is drawn


def distinct_integers(below: int, count: int, generator: torch.Generator) -> Int64[Tensor, " drawn"]:
    """`count` different numbers from 0 to `below - 1`, in ascending order; all of them if there are no more."""
    if count >= below:
        return torch.arange(below)
    if below <= _LISTED:
        return torch.randperm(below, generator=generator)[:count].sort().values
    drawn = torch.empty(0, dtype=torch.int64)
    while len(drawn) < count:
        more = torch.randint(below, (count + count // 4,), generator=generator)
        drawn = torch.unique(torch.cat([drawn, more]))
    return drawn[torch.randperm(len(drawn), generator=generator)[:count]].sort().values


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
