"""Neighbour lists with their ties, deep enough to be judged, a block of queries at a time."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, Rows, topk
from tuplet.geometry import geometry_of
from tuplet.types import GeometryName

_WIDEN = 16  # how much deeper to look when a tie reaches the end of a list
_MOST_KEPT = 1 << 24  # numbers in lists that are kept


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


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest rows of each row of a set among the others: found once, ranked by several rules.

    Attributes:
        scores: Best first, as `topk` says them without `exact_scores`.
        positions: Which rows.
        geometry: How the rows were compared.
    """

    scores: Float[Tensor, "queries ranks"]
    positions: Int64[Tensor, "queries ranks"]
    geometry: GeometryName

    @classmethod
    def of(
        cls, rows: Float[Tensor, "rows dim"], depth: Int64[Tensor, " scored"], geometry: GeometryName
    ) -> "Neighbours | None":
        """Lists twice as long as nine of ten rows need; None where that is more than searching again.

        Args:
            rows: Embeddings that ask and answer.
            depth: For each row that asks the number of ranks that the widest rule looks at.
            geometry: How two embeddings are compared.
        """
        width = min(len(rows) - 1, 2 * (int(depth.double().quantile(0.9)) + 1)) if len(depth) else 0
        if width < 1 or len(rows) * width > _MOST_KEPT:
            return None
        own = torch.arange(len(rows), device=rows.device)
        found = topk(rows, rows, width, geometry, exclude=own, exact_scores=False)
        return cls(found.scores.cpu(), found.positions.cpu(), geometry)

    def ranking(
        self,
        queries: Int64[Tensor, " queries"],
        depth: Int64[Tensor, " queries"],
        groups: tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]] | None,
    ) -> tuple[Ranking, Bool[Tensor, " queries"]]:
        """Rankings of some rows without those of their group, and for which of them the lists are long enough.

        Args:
            queries: Rows that ask.
            depth: As for `ranked`.
            groups: As for `ranked`, of all rows.
        """
        scores, positions = self.scores[queries], self.positions[queries]
        hidden = positions < 0
        if groups is not None:
            hidden |= groups[0][queries][:, None] == groups[1][positions.clamp_min(0)]
        order = hidden.long().argsort(dim=1, stable=True)
        scores, positions, hidden = (part.gather(1, order) for part in (scores, positions, hidden))
        visible = (~hidden).sum(1)
        worst = -torch.inf if geometry_of(self.geometry).kind == "similarity" else torch.inf
        scores, positions = scores.masked_fill(hidden, worst), positions.masked_fill(hidden, -1)
        last = scores.gather(1, (depth - 1).clamp_max(scores.shape[1] - 1)[:, None])
        enough = (visible > depth) & (scores.gather(1, (visible - 1).clamp_min(0)[:, None]) != last)[:, 0]
        if self.positions.shape[1] == len(self.positions) - 1:  # everything is in the list
            enough = visible >= depth
        width = int((scores == last).long().cumsum(1).argmax(1)[enough].max()) + 1 if enough.any() else 1
        start, stop = tie_bounds(scores[:, :width])
        return Ranking(queries[enough], positions[enough, :width], start[enough], stop[enough]), enough


def ranked(
    queries: Float[Tensor, "queries dim"],
    gallery: Rows,
    depth: Int64[Tensor, " queries"],
    geometry: GeometryName,
    *,
    exclude: Int[Tensor, " queries"] | None = None,
    groups: tuple[Int[Tensor, " queries"], Int[Tensor, " gallery"]] | None = None,
    tile_size: int = SEARCH_TILE,
    known: Neighbours | None = None,
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
        known: Lists found before, if the queries are rows of the gallery, which `exclude` names.

    Yields:
        Blocks in which the tie around rank `depth` of each query is complete. Each query is in one block.
    """
    order = depth.argsort(stable=True)  # queries of like depth together
    if known is not None and exclude is not None:
        order = yield from _ranked_by_known(known, order, depth, exclude, groups, tile_size)
        if not len(order):
            return
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


def _ranked_by_known(
    known: Neighbours,
    order: Int64[Tensor, " queries"],
    depth: Int64[Tensor, " queries"],
    rows: Int[Tensor, " queries"],
    groups: tuple[Int[Tensor, " queries"], Int[Tensor, " gallery"]] | None,
    tile_size: int,
) -> Generator[Ranking, None, Int64[Tensor, " left"]]:
    """Blocks of the queries for which lists found before are deep enough; the others are returned."""
    whole = None if groups is None else (groups[1].cpu(), groups[1].cpu())
    left = []
    for part in spans(len(order), tile_size // (8 * known.positions.shape[1])):
        block, enough = known.ranking(rows.cpu()[order[part]], depth[order[part]], whole)
        yield replace(block, queries=order[part][enough])
        left.append(order[part][~enough])
    return torch.cat(left) if left else order


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
