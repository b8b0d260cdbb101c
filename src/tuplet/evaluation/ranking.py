"""Neighbour lists with their ties, deep enough to be judged, a block of queries at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tuplet.engine.topk import SEARCH_TILE, Rows, topk
from tuplet.types import GeometryName

_WIDEN = 16  # how much deeper to look when a tie reaches the end of a list


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked gallery rows of some queries. Ranks `start` to `stop - 1` hold equal scores, in no particular order.

    Attributes:
        queries: Which queries.
        positions: Gallery row at each rank; -1 beyond the last.
        start: First rank of the tie that each rank belongs to, from 0.
        stop: One past its last rank.
    """

    queries: Int64[Tensor, " queries"]
    positions: Int64[Tensor, "queries ranks"]
    start: Int64[Tensor, "queries ranks"]
    stop: Int64[Tensor, "queries ranks"]


def ranked(
    queries: Float[Tensor, "queries dim"],
    gallery: Rows,
    depth: Int64[Tensor, " queries"],
    geometry: GeometryName,
    *,
    exclude: Int[Tensor, " queries"] | None = None,
    groups: tuple[Int[Tensor, " queries"], Int[Tensor, " gallery"]] | None = None,
    tile_size: int = SEARCH_TILE,
) -> Iterator[Ranking]:
    """Rank the gallery for each query down to its depth.

    Args:
        queries: Embeddings that ask.
        gallery: Embeddings that answer.
        depth: For each query the number of ranks that will be looked at, at least 1 and at most what it can have.
        geometry: How two embeddings are compared.
        exclude: For each query one gallery row that is left out; see `topk`.
        groups: Groups of queries and gallery rows; see `topk`.
        tile_size: Numbers in one tile.

    Yields:
        Blocks in which the tie around rank `depth` of each query is complete. Each query is in one block.
    """
    order = depth.argsort(stable=True)  # queries of like depth together
    pending = [(order, depth[order] + 1)]
    while pending:
        rows, widths = pending.pop()
        room = torch.arange(1, len(rows) + 1) * widths <= max(1, tile_size // 8)  # about eight tensors per rank
        count = max(1, int(room.sum()))  # widths ascend: true, then false
        if count < len(rows):
            pending.append((rows[count:], widths[count:]))
        rows, width = rows[:count], min(int(widths[count - 1]), len(gallery))
        found = topk(
            queries[rows],
            gallery,
            width,
            geometry,
            exclude=None if exclude is None else exclude[rows],
            groups=None if groups is None else (groups[0][rows], groups[1]),
            tile_size=tile_size,
            exact_scores=False,
        )
        scores, positions = found.scores.cpu(), found.positions.cpu()
        last = scores.gather(1, (depth[rows] - 1)[:, None])[:, 0]
        is_cut = (scores[:, -1] == last) & (positions[:, -1] >= 0) & (width < len(gallery))
        if is_cut.any():
            deeper = torch.full_like(rows[is_cut], min(_WIDEN * width, len(gallery)))
            pending.append((rows[is_cut], deeper))
        yield Ranking(rows[~is_cut], positions[~is_cut], *tie_bounds(scores[~is_cut]))


def without_ties(ranking: Ranking, first: Tensor | None = None) -> Ranking:
    """The same ranking with every tie settled.

    Args:
        ranking: Ranks with ties.
        first: Where true, a row comes before the false ones it ties with; by default the lower position is first.
    """
    positions = ranking.positions
    if first is not None:
        order = (2 * ranking.start + ~first).argsort(dim=1, stable=True)
        positions = positions.gather(1, order)
    ranks = torch.arange(positions.shape[1]).expand_as(positions)
    return Ranking(ranking.queries, positions, ranks, ranks + 1)


def tie_bounds(
    scores: Float[Tensor, "queries ranks"],
) -> tuple[Int64[Tensor, "queries ranks"], Int64[Tensor, "queries ranks"]]:
    """First rank, and one past the last rank, of the run of equal scores that each rank belongs to."""
    width = scores.shape[1]
    ranks = torch.arange(width).expand_as(scores)
    opens = torch.ones_like(scores, dtype=torch.bool)
    opens[:, 1:] = scores[:, 1:] != scores[:, :-1]
    start = ranks.where(opens, 0).cummax(1).values
    following = ranks.where(opens, width)[:, 1:]
    following = torch.cat([following, torch.full_like(scores[:, :1], width, dtype=torch.int64)], 1)
    return start, following.flip(1).cummin(1).values.flip(1)
