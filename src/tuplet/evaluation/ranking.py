"""The ranking core: a gallery ranked for each query, exactly, a block of queries at a time.

Retrieval, kNN and graded retrieval read neighbour lists, pairs read the rank of one wanted row. Nothing of size
queries x gallery is held, and what is counted stays on the device of the queries.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from tuplet.engine.pair_scores import ApproximateScorer, exact_score, prepared_rows
from tuplet.engine.tiles import spans
from tuplet.engine.topk import ON_DEVICE, SEARCH_TILE, Hides, Rows, TopK, among, topk
from tuplet.geometry import geometry_of
from tuplet.types import GeometryName

_WIDEN = 16  # how much deeper to look when a tie reaches the end of a list
_BESIDE = 8  # tensors of the size of a block's lists that are held at once
_MOST_KEPT = 1 << 24  # numbers in lists that are kept


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked gallery rows of some queries. Ranks `start` to `stop - 1` hold equal scores, in no particular order.

    Attributes:
        queries: Which queries; on the CPU.
        positions: Gallery row at each rank; -1 beyond the last.
        start: First rank of the tie that each rank belongs to, from 0.
        stop: One past its last rank.
    """

    queries: Int64[Tensor, " queries"]
    positions: Int64[Tensor, "queries ranks"]
    start: Int64[Tensor, "queries ranks"]
    stop: Int64[Tensor, "queries ranks"]

    def without_ties(self, first: Bool[Tensor, "queries ranks"] | None = None) -> "Ranking":
        """The same ranking with every tie settled.

        Args:
            first: Where true, a row comes before the false ones it ties with; by default the lower position is first.
        """
        positions = self.positions
        if first is not None:
            positions = positions.gather(1, (2 * self.start + ~first).argsort(dim=1, stable=True))
        ranks = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
        return Ranking(self.queries, positions, ranks, ranks + 1)


@dataclass(frozen=True, eq=False)
class Ranker:
    """Queries and the gallery that is ranked for them.

    Attributes:
        queries: Embeddings of the queries.
        gallery: Embeddings that are ranked, in memory or memory-mapped.
        geometry: How two embeddings are compared.
        exclude: For each query one gallery row that is left out; see `topk`.
        groups: Groups of queries and gallery rows; see `topk`.
        tile_size: Numbers in one tile; no result depends on it.
        hides: What else a query does not see; see `topk`.
    """

    queries: Float[Tensor, "queries dim"]
    gallery: Rows
    geometry: GeometryName
    exclude: Int[Tensor, " queries"] | None = None
    groups: tuple[Int[Tensor, " queries"], Int[Tensor, " gallery"]] | None = None
    tile_size: int = SEARCH_TILE
    hides: Hides | None = None

    def nearest(self, top: int, *, beside: int = 0) -> Iterator[tuple[slice, TopK]]:
        """Neighbour lists of one length, with exact scores.

        Args:
            top: Length of the lists; at most the size of the gallery.
            beside: Numbers that the reader holds for each query.

        Yields:
            Which queries, and their neighbours.
        """
        top = min(top, len(self.gallery))
        for rows in spans(len(self.queries), self._tile // (_BESIDE * max(top, beside))):
            yield rows, self._search(rows, top, exact_scores=True)

    def to_depth(self, depth: Int64[Tensor, " queries"], known: "Neighbours | None" = None) -> Iterator[Ranking]:
        """Rankings down to a depth of each query, and on to the end of the tie there.

        A list that ends within that tie is yielded too, and again when it was found longer: the later ranking of a
        query counts. So a round of blocks runs without waiting for what the device found.

        Args:
            depth: Ranks that will be looked at, at least 1 and at most what the query can have; on the CPU.
            known: Lists found before, if the queries are rows of the gallery, which `exclude` names.
        """
        order = depth.argsort(stable=True)  # queries of like depth together
        if known is not None and self.exclude is not None:
            order = yield from self._from_lists(known, order, depth)
        widths = depth[order] + 1
        while len(order):
            cut, deeper = [], torch.empty_like(widths)
            for part in self._blocks(widths):
                rows, width = order[part], min(int(widths[part.stop - 1]), len(self.gallery))
                found = self._search(rows, width)
                last = found.scores.gather(1, (depth[rows] - 1).to(found.scores.device)[:, None])[:, 0]
                reaches = (found.scores[:, -1] == last) & (found.positions[:, -1] >= 0)
                cut.append(reaches if width < len(self.gallery) else torch.zeros_like(reaches))
                deeper[part] = min(_WIDEN * width, len(self.gallery))
                yield Ranking(rows, found.positions, *tie_bounds(found.scores))
            again = torch.cat(cut).cpu()
            order, widths = order[again], deeper[again]

    def rank_of(self, wanted: Int64[Tensor, " queries"]) -> tuple[Int64[Tensor, " queries"], Int64[Tensor, " queries"]]:
        """How many gallery rows are nearer to each query than a wanted one, and how many as near, itself included.

        Products of matrices count what is nearer by more than their error; the few rows that they cannot tell from the
        wanted one are scored exactly, in a second pass over the queries that have such rows.

        Args:
            wanted: A row of the gallery for each query; `exclude` and `groups` are not looked at.
        """
        everyone = torch.arange(len(wanted), device=wanted.device)
        own = self._scores(everyone, wanted)
        above, ties = torch.zeros_like(everyone), torch.zeros_like(everyone)
        for rows, _, nearer, close in self._compared(everyone, own):
            above[rows] += nearer.sum(1)
            ties[rows] += close.sum(1)
        unsure = (ties > 1).nonzero()[:, 0]  # the one time that the device is waited for, but for these
        if not len(unsure):
            return above, ties
        above[unsure] = ties[unsure] = 0  # both anew: the bound of a product depends on the queries beside it
        for rows, cols, nearer, close in self._compared(unsure, own[unsure]):
            asking = unsure[rows]
            above[asking] += nearer.sum(1)
            if geometry_of(self.geometry).kind == "similarity":
                apart = self._share_nothing(asking, wanted[asking], cols)  # exactly 0, as is usual among texts
                ties[asking] += apart.sum(1)
                close.masked_fill_(apart, value=False)
            for row, col in zip(*(part.split(self._pairs_at_once) for part in close.nonzero().T), strict=True):
                scores = self._scores(asking[row], col + cols.start)
                above.index_add_(0, asking[row], (scores > own[asking[row]]).long())
                ties.index_add_(0, asking[row], (scores == own[asking[row]]).long())
        return above, ties

    def _compared(
        self, which: Int64[Tensor, " some"], own: Float[Tensor, " some"]
    ) -> Iterator[tuple[slice, slice, Bool[Tensor, "_ _"], Bool[Tensor, "_ _"]]]:
        """Tiles of some queries and the gallery: what is surely nearer than `own`, and what a product cannot tell."""
        asked = ApproximateScorer.of(self.queries[which], torch.float64, self.geometry)
        limit = -own.square() if self.geometry == "euclidean" else own  # rough scores of distances are squares
        for cols in spans(len(self.gallery), self._tile // max(self.queries.shape[1], min(len(which), 256))):
            tile = asked.of_gallery(self._rows(cols))
            error = 2 * asked.error_bound(tile.norms.max())  # of the product, and of the square of `own`
            for rows in spans(len(which), self._tile // (cols.stop - cols.start)):
                lead = asked.scores(tile, rows) - limit[rows, None]
                yield rows, cols, lead > error[rows, None], lead.abs() <= error[rows, None]

    @property
    def _tile(self) -> int:
        is_larger = self.tile_size == SEARCH_TILE and self.queries.device.type != "cpu"  # as `topk` does
        return self.tile_size * ON_DEVICE if is_larger else self.tile_size

    @property
    def _places(self) -> Int64[Tensor, " queries"]:
        return torch.arange(len(self.queries), device=self.queries.device)

    @property
    def _pairs_at_once(self) -> int:
        return max(1, self._tile // (16 * self.queries.shape[1]))

    def _scores(self, queries: Tensor, positions: Tensor) -> Float[Tensor, " pairs"]:
        """Exact scores of pairs; larger is nearer."""
        queries, rows = (prepared_rows(side, self.geometry) for side in (self.queries[queries], self._rows(positions)))
        return exact_score(queries, rows, self.geometry)

    def _share_nothing(self, queries: Tensor, wanted: Tensor, cols: slice) -> Bool[Tensor, "queries cols"]:
        """Where neither the gallery row nor the wanted one has an entry other than 0 where the query has one."""
        left, right, own = (rows != 0 for rows in (self.queries[queries], self._rows(cols), self._rows(wanted)))
        if bool(left.all()) or bool(right.all()):
            return torch.zeros(len(left), len(right), dtype=torch.bool, device=left.device)
        return (left.float() @ right.float().T == 0) & ~(left & own).any(1, keepdim=True)

    def _rows(self, which: slice | Tensor) -> Float[Tensor, "rows dim"]:
        assert isinstance(self.gallery, Tensor)  # noqa: S101  ranks of wanted rows are asked of tensors
        return self.gallery[which]

    def _search(self, rows: slice | Tensor, width: int, *, exact_scores: bool = False) -> TopK:
        return topk(
            self.queries[rows],
            self.gallery,
            width,
            self.geometry,
            exclude=None if self.exclude is None else self.exclude[rows],
            groups=None if self.groups is None else (self.groups[0][rows], self.groups[1]),
            hides=None if self.hides is None else among(self.hides, self._places[rows]),
            tile_size=self.tile_size,
            exact_scores=exact_scores,
        )

    def _blocks(self, widths: Int64[Tensor, " queries"]) -> Iterator[slice]:
        """Spans of queries whose lists fit a tile together; widths ascend, and the last of a block is that of all."""
        start, room = 0, max(1, self._tile // _BESIDE)
        while start < len(widths):
            fits = torch.arange(1, len(widths) - start + 1) * widths[start:] <= room
            stop = start + max(1, int(fits.sum()))  # true, then false
            yield slice(start, stop)
            start = stop

    def _from_lists(
        self, known: "Neighbours", order: Int64[Tensor, " queries"], depth: Int64[Tensor, " queries"]
    ) -> Generator[Ranking, None, Int64[Tensor, " left"]]:
        """Rankings of the queries for which lists found before are deep enough; the others are returned."""
        assert self.exclude is not None  # noqa: S101  it names the rows of the queries
        left = []
        for part in spans(len(order), self._tile // (_BESIDE * known.positions.shape[1])):
            queries = order[part]
            groups = None if self.groups is None else (self.groups[0][queries], self.groups[1])
            scores, positions, enough = known.visible(self.exclude[queries], depth[queries], groups)
            yield Ranking(queries[enough.cpu()], positions, *tie_bounds(scores))
            left.append(queries[~enough.cpu()])
        return torch.cat(left) if left else order


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
            rows: Embeddings, each a query and a row of the gallery.
            depth: For each query the number of ranks that the widest rule looks at.
            geometry: How two embeddings are compared.
        """
        width = min(len(rows) - 1, 2 * (int(depth.double().quantile(0.9)) + 1)) if len(depth) else 0
        if width < 1 or len(rows) * width > _MOST_KEPT:
            return None
        own = torch.arange(len(rows), device=rows.device)
        found = topk(rows, rows, width, geometry, exclude=own, exact_scores=False)
        return cls(found.scores, found.positions, geometry)

    def visible(
        self,
        queries: Int64[Tensor, " queries"],
        depth: Int64[Tensor, " queries"],
        groups: tuple[Int[Tensor, " queries"], Int[Tensor, " rows"]] | None,
    ) -> tuple[Float[Tensor, "enough ranks"], Int64[Tensor, "enough ranks"], Bool[Tensor, " queries"]]:
        """Lists without the rows of the query's group, where they are long enough, and where that is.

        Args:
            queries: Rows that are queries.
            depth: Ranks that will be looked at.
            groups: Of these queries and of all rows.
        """
        scores, positions, depth = self.scores[queries], self.positions[queries], depth.to(self.scores.device)
        hidden = positions < 0
        if groups is not None:
            hidden |= groups[0][:, None] == groups[1][positions.clamp_min(0)]
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
        return scores[enough, :width], positions[enough, :width], enough


def tie_bounds(
    scores: Float[Tensor, "queries ranks"],
) -> tuple[Int64[Tensor, "queries ranks"], Int64[Tensor, "queries ranks"]]:
    """First rank, and one past the last rank, of the run of equal scores that each rank belongs to."""
    width = scores.shape[1]
    ranks = torch.arange(width, device=scores.device).expand_as(scores)
    opens = torch.ones_like(scores, dtype=torch.bool)
    opens[:, 1:] = scores[:, 1:] != scores[:, :-1]
    start = ranks.where(opens, 0).cummax(1).values
    following = ranks.where(opens, width)[:, 1:]
    following = torch.cat([following, torch.full_like(scores[:, :1], width, dtype=torch.int64)], 1)
    return start, following.flip(1).cummin(1).values.flip(1)
