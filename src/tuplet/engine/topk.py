"""Exact nearest neighbours, in tiles.

A matrix product is fast, but its last bits depend on where a row lies in the panel, so two equal rows may get
two scores. Here products only preselect, with a proven error bound; what they leave is scored again by one fixed order
of float64 operations. A neighbour list is therefore the same for every tile size, and equal rows tie exactly.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Count, bounded
from tuplet.engine.pair_scores import ApproximateScorer, exact_score, norm_of, prepared_rows, rooted
from tuplet.engine.tiles import spans
from tuplet.errors import NonFiniteError, ShapeError
from tuplet.geometry import geometry_of
from tuplet.types import GeometryName

SEARCH_TILE = 1 << 22
"""Numbers in one tile by default on a CPU, 16 MB in float32; on an accelerator it is `ON_DEVICE` times as many."""

ON_DEVICE = 16

Rows = Float[Tensor, "gallery dim"] | NDArray[np.floating[Any]]
"""Embeddings in memory, or a (memory-mapped) array that is read tile by tile."""
Hides = Callable[[Tensor, slice], Tensor]
"""Positions of queries, and a span of the gallery -> what these queries do not see of it, bool (queries, span)."""

_FEW, _IN_CACHE = 16, 1 << 19
"""Queries for which reading the gallery costs more than choosing from it; numbers of a tile that a CPU keeps near."""

_SPARE = 16  # candidates beyond `top` that are scored again; more spare, fewer queries that need the second pass


@dataclass(frozen=True, eq=False)
class TopK:
    """Nearest neighbours, best first; equal scores by lower position.

    Attributes:
        scores: float64, in the geometry's own unit. Where a query has too few neighbours: minus infinity, plus
            infinity for distances.
        positions: Rows of the gallery; -1 where a query has too few neighbours.
    """

    scores: Float[Tensor, "queries top"]
    positions: Int64[Tensor, "queries top"]


@torch.no_grad()
@bounded
def topk(
    queries: Float[Tensor, "queries dim"],
    gallery: Rows,
    top: Count,
    geometry: GeometryName = "cosine",
    *,
    exclude: Int[Tensor, " queries"] | None = None,
    groups: tuple[Int[Tensor, " queries"], Int[Tensor, " gallery"]] | None = None,
    hides: Hides | None = None,
    tile_size: Count = SEARCH_TILE,
    exact_scores: bool = True,
) -> TopK:
    """Find the nearest rows of a gallery for each query.

    Working memory is a few tiles and `queries x top`. Scores and order do not depend on `tile_size`.

    Args:
        queries: Query embeddings.
        gallery: Embeddings to search; a memory-mapped array is read once, tile by tile, and where it is rescored.
        top: Neighbours per query, at least 1; at most the size of the gallery is returned.
        geometry: How two embeddings are compared. Similarities are best when large, distances when small.
        exclude: For each query one position of the gallery that is left out, usually its own; -1 for none.
        groups: Groups of queries and gallery; a query does not see gallery rows of its own group.
        hides: Says of a tile what else a query does not see.
        tile_size: Numbers in one tile, at least 1; the default is larger on an accelerator.
        exact_scores: False asks for the exact order and its ties alone: only what lies too near its neighbour for the
            bound of a product is scored exactly, and other scores are as good as the product.

    Returns:
        `min(top, len(gallery))` neighbours for each query.

    Raises:
        ShapeError: If the arguments do not fit together, or a row holds NaN, infinity or numbers too large to square.
    """
    geometry_of(geometry)  # or a message with the names
    _check(queries, gallery, exclude, groups, top=top, tile_size=tile_size)
    if tile_size == SEARCH_TILE and queries.device.type != "cpu":  # launches cost more there than memory
        tile_size *= ON_DEVICE
    search = _Search(queries.detach(), gallery, geometry, exclude, groups, hides, tile_size)
    top = min(top, len(gallery))
    with torch.autocast(queries.device.type, enabled=False):
        scores, positions = search.best(top, exact=exact_scores)
    missing = scores == -torch.inf
    return TopK(nearness(scores, geometry), positions.masked_fill(missing, -1))


def pair_scores(
    first: Float[Tensor, "*pairs dim"], second: Float[Tensor, "*pairs dim"], geometry: GeometryName = "cosine"
) -> Float[Tensor, "*pairs"]:
    """Score row i of one set with row i of another, as `topk` does, bit for bit.

    Args:
        first: One row of each pair.
        second: The other; order within a pair does not matter.
        geometry: How two embeddings are compared.

    Returns:
        float64 scores in the geometry's own unit.
    """
    return nearness(exact_score(prepared_rows(first, geometry), prepared_rows(second, geometry), geometry), geometry)


def unit_rows(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Rows of length 1 in float64: their `dot` is what `pair_scores` says by cosine, bit for bit.

    Args:
        rows: Rows that are paired more than once.
    """
    return prepared_rows(rows, "cosine")


def nearness(scores: Float[Tensor, "*pairs"], geometry: GeometryName) -> Float[Tensor, "*pairs"]:
    """Scores turned so that larger is nearer: similarities as they are, distances negated; and back."""
    return scores if geometry_of(geometry).kind == "similarity" else -scores


@dataclass(frozen=True, eq=False)
class _Search:
    """One search; in it scores are turned so that larger is nearer."""

    queries: Tensor
    gallery: Rows
    geometry: GeometryName
    exclude: Tensor | None
    groups: tuple[Tensor, Tensor] | None
    hides: Hides | None
    tile_size: int

    def best(self, top: int, *, exact: bool = True) -> tuple[Tensor, Tensor]:
        """Scores and positions of the `top` nearest of each query; without `exact` scores tell order and ties alone."""
        _refuse_non_finite([self.queries], "queries", self._fast_dtype())
        if top + _SPARE >= len(self.gallery):
            everything = torch.arange(len(self.queries), device=self.queries.device)
            return self.settle(everything, torch.full_like(everything, -torch.inf, dtype=torch.float64), top)
        scores, positions, unsure = self.select(top, exact=exact)
        if len(unsure):
            scores[unsure], positions[unsure] = self.settle(unsure, scores[unsure, -1], top)
        return scores, positions

    def select(self, top: int, *, exact: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The same by products, and the queries whose spare candidates do not suffice to be certain."""
        rough, positions, error = self._candidates(top + _SPARE)
        beyond = rooted(rough[:, -1].double() + error, self.geometry)  # whatever is no candidate is no nearer
        if exact:
            scores, positions = self._rescore(positions, self.queries, top)
            unsure = beyond >= scores[:, -1]
        else:
            found, candidates = self._disentangle(rough, positions, error, top), positions
            scores, positions, least = found
            unsure = beyond >= least
            again = (unsure & (beyond > -torch.inf)).nonzero()[:, 0]
            scores[again], positions[again] = self._rescore(candidates[again], self.queries[again], top)
            unsure[again] = beyond[again] >= scores[again, -1]
        return scores, positions, (unsure & (beyond > -torch.inf)).nonzero()[:, 0]

    def _candidates(self, kept: int) -> tuple[Tensor, Tensor, Tensor]:
        """Approximate scores, best first, and positions of candidates; a bound of the error for each query."""
        count = len(self.queries)
        rough = self.queries.new_full((count, kept), -torch.inf, dtype=self._fast_dtype())
        positions = torch.full((count, kept), len(self.gallery), device=rough.device)
        asked = ApproximateScorer.of(self.queries, rough.dtype, self.geometry)
        longest = torch.zeros((), dtype=rough.dtype, device=rough.device)
        for cols in self._tiles(count):
            tile = asked.of_gallery(self._rows(cols), overwrite=not isinstance(self.gallery, Tensor))
            longest = torch.maximum(longest, tile.norms.max())
            for rows in spans(count, self.tile_size // (cols.stop - cols.start)):
                scores = self._hide(asked.scores(tile, rows), rows, cols)
                best, where = scores.topk(min(kept, scores.shape[1]))
                best, where = torch.cat([rough[rows], best], 1), torch.cat([positions[rows], where + cols.start], 1)
                rough[rows], chosen = best.topk(kept)
                positions[rows] = where.gather(1, chosen)
        self._accept(longest, rough.dtype)
        return rough, positions.where(rough > -torch.inf, len(self.gallery)), asked.error_bound(longest)

    def _disentangle(self, rough: Tensor, positions: Tensor, error: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and positions of the `top` best; candidates that rough scores cannot tell apart are scored exactly.

        Returns:
            Scores, positions, and what the last score is at least.
        """
        # More than the bound on either side: a rough score and an exact one never tie by the rounding of a root.
        near = ~(rough[:, :-1].double() - rough[:, 1:].double() > 2.5 * error[:, None]) & (rough[:, 1:] > -torch.inf)
        near[:, top - 1 :] = near[:, top - 1 :].cummin(1).values  # beyond the last only what may reach it
        apart = torch.zeros_like(near[:, :1])
        tangled = torch.cat([near, apart], 1) | torch.cat([apart, near], 1)
        scores = rooted(rough.double(), self.geometry)
        row, col = tangled.nonzero(as_tuple=True)
        for part in spans(len(row), self.tile_size // (16 * self.queries.shape[1])):
            rivals = prepared_rows(self._rows(positions[row[part], col[part]]), self.geometry)
            asking = prepared_rows(self.queries[row[part]], self.geometry)
            scores[row[part], col[part]] = exact_score(asking, rivals, self.geometry)
        least = rooted(rough.double() - error[:, None], self.geometry).where(~tangled, scores)
        positions, order = positions.sort(dim=1)  # of equal scores the lower position is first
        scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        order = order.gather(1, best)[:, :top]
        return scores[:, :top], positions.gather(1, best)[:, :top], least.gather(1, order[:, -1:])[:, 0]

    def _rescore(self, positions: Tensor, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Exact scores and positions of the `top` best of some candidates of each query."""
        positions = positions.sort(dim=1).values
        norms = self._norms(positions) if self.geometry == "cosine" else None
        best = positions.new_zeros((len(positions), top), dtype=torch.float64), positions.new_zeros(len(positions), top)
        for rows in spans(len(positions), self.tile_size // (16 * positions.shape[1] * self.queries.shape[1])):
            found = positions[rows]
            inside = found.clamp_max(len(self.gallery) - 1)
            rivals = self._rows(inside.flatten()).view(*found.shape, self.queries.shape[1]).double()
            if norms is not None:
                rivals /= norms[inside][..., None]
            scores = exact_score(prepared_rows(queries[rows], self.geometry)[:, None], rivals, self.geometry)
            scores = scores.where(found < len(self.gallery), -torch.inf)
            scores, order = scores.sort(dim=1, descending=True, stable=True)  # columns are in order of position
            best[0][rows], best[1][rows] = scores[:, :top], found.gather(1, order)[:, :top]
        return best

    def _norms(self, positions: Tensor) -> Tensor:
        """Lengths of the gallery rows that are wanted; a row is a candidate of many queries and measured once."""
        norms = torch.ones(len(self.gallery), dtype=torch.float64, device=positions.device)
        wanted = torch.unique(positions)
        wanted = wanted[wanted < len(self.gallery)]
        for part in spans(len(wanted), self.tile_size // (16 * self.queries.shape[1])):
            norms[wanted[part]] = norm_of(self._rows(wanted[part]))
        return norms

    def settle(self, asking: Tensor, floor: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Score again everything that reaches `floor`, for queries with more near ties than spare candidates."""
        part = _Search(
            self.queries[asking],
            self.gallery,
            self.geometry,
            None if self.exclude is None else self.exclude[asking],
            None if self.groups is None else (self.groups[0][asking], self.groups[1]),
            None if self.hides is None else among(self.hides, asking),
            self.tile_size,
        )
        scores = floor.new_full((len(asking), top), -torch.inf)
        positions = torch.full_like(scores, len(self.gallery), dtype=torch.int64)
        asked = ApproximateScorer.of(part.queries, torch.float64, self.geometry)
        for cols in self._tiles(len(asking)):
            # Equal rows are why we are here: each is scored once.
            distinct, copies = torch.unique(self._rows(cols), dim=0, return_inverse=True)
            tile = asked.of_gallery(distinct)
            longest = tile.norms.max()
            self._accept(longest, tile.rows.dtype)
            for rows in spans(len(asking), self.tile_size // (cols.stop - cols.start)):
                least = scores[rows].amin(1, keepdim=True)
                bound = rooted(asked.scores(tile, rows) + asked.error_bound(longest)[rows, None], self.geometry)
                exact = part._score_where(bound >= floor[rows, None].maximum(least), rows, distinct)
                # Of equal scores the first stay, and rows of later tiles come later: most tiles change nothing.
                changed = (exact > least).any(1).nonzero()[:, 0]
                exact = exact[changed][:, copies]
                changed += rows.start
                exact = part._hide(exact, changed, cols)
                where = torch.arange(cols.start, cols.stop, device=scores.device).expand(len(exact), -1)
                exact, where = torch.cat([scores[changed], exact], 1), torch.cat([positions[changed], where], 1)
                chosen = _first_best(exact, top)
                scores[changed], positions[changed] = exact.gather(1, chosen), where.gather(1, chosen)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return scores, positions.gather(1, order)

    def _score_where(self, wanted: Tensor, rows: slice, rivals: Tensor) -> Tensor:
        scores = torch.full(wanted.shape, -torch.inf, dtype=torch.float64, device=wanted.device)
        row, col = wanted.nonzero(as_tuple=True)
        asking, rivals = prepared_rows(self.queries[rows], self.geometry), prepared_rows(rivals, self.geometry)
        for part in spans(len(row), self.tile_size // (16 * rivals.shape[1])):
            scores[row[part], col[part]] = exact_score(asking[row[part]], rivals[col[part]], self.geometry)
        return scores

    def _hide(self, scores: Tensor, rows: slice | Tensor, cols: slice) -> Tensor:
        if self.groups is not None:
            scores = scores.masked_fill_(self.groups[0][rows][:, None] == self.groups[1][cols], -torch.inf)
        if self.hides is not None:
            places = torch.arange(len(self.queries), device=scores.device)[rows]
            scores = scores.masked_fill_(self.hides(places, cols), -torch.inf)
        if self.exclude is not None:
            own = (self.exclude[rows] - cols.start)[:, None]
            inside, own = (own >= 0) & (own < scores.shape[1]), own.clamp(0, scores.shape[1] - 1)
            scores.scatter_(1, own, torch.where(inside, -torch.inf, scores.gather(1, own)))
        return scores

    def _accept(self, longest: Tensor, dtype: torch.dtype) -> None:
        if not float(longest) < _longest_norm(dtype):  # or NaN; all broken rows are named, not those of a tile
            _refuse_non_finite(map(self._rows, self._tiles(1)), "rows of the gallery", self._fast_dtype())

    def _tiles(self, queries: int) -> tuple[slice, ...]:
        # A tile of the gallery is a copy too: both it and its scores stay within the budget.
        beside = max(self.queries.shape[1], min(queries, 256))
        in_cache = queries <= _FEW and self.queries.device.type == "cpu"
        return spans(len(self.gallery), (min(self.tile_size, _IN_CACHE) if in_cache else self.tile_size) // beside)

    def _rows(self, which: slice | Tensor) -> Tensor:
        if isinstance(self.gallery, Tensor):
            return self.gallery[which].detach()
        found = self.gallery[which if isinstance(which, slice) else which.cpu().numpy()]
        copy = np.array(found, dtype=found.dtype.newbyteorder("="))  # a mapped file may be read-only
        return torch.from_numpy(copy).to(self.queries.device)

    def _fast_dtype(self) -> torch.dtype:
        wide = torch.float64 in (self.queries.dtype, self._rows(slice(0, 1)).dtype)
        return torch.float64 if wide or _products_are_coarse() else torch.float32


def among(hides: Hides, asking: Int64[Tensor, " some"]) -> Hides:
    """What some of the queries do not see, by their positions among these."""
    return lambda rows, cols: hides(asking[rows], cols)


def _first_best(scores: Tensor, top: int) -> Tensor:
    """Columns of the `top` largest scores of each row, in order of column; of equal scores the first columns."""
    least = scores.topk(top).values[:, -1:]
    above, level = scores > least, scores == least
    room = top - above.sum(1, keepdim=True)
    chosen = above | (level & (level.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(-1, top)


def _products_are_coarse() -> bool:
    """Whether a switch of torch lets float32 products be coarser than their bound here."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # it was set for one backend, by the newer switches
        return True


def _longest_norm(dtype: torch.dtype) -> float:
    return math.sqrt(torch.finfo(dtype).max) / 4  # squares of sums and differences of such rows are finite


def _refuse_non_finite(tiles: Iterable[Tensor], name: str, dtype: torch.dtype) -> None:
    norms = torch.cat([torch.linalg.vector_norm(tile.to(dtype), dim=1) for tile in tiles])
    bad = (~(norms < _longest_norm(dtype))).nonzero()[:, 0]
    if len(bad):
        shown = ", ".join(map(str, bad[:10].tolist())) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise NonFiniteError(
            f"The {name} hold NaN, infinity or numbers too large to square in {len(bad)} rows: {shown}.",
            hint="Look at what made these embeddings: a diverged model, a broken input, a division by zero.",
            reference="non-finite-embeddings",
        )


def _check(
    queries: Tensor,
    gallery: Rows,
    exclude: Tensor | None,
    groups: tuple[Tensor, Tensor] | None,
    *,
    top: int,
    tile_size: int,
) -> None:
    wrong = ""
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1] or queries.shape[1] == 0:
        wrong = f"queries are {tuple(queries.shape)} and the gallery is {tuple(gallery.shape)}; expected (n, d), (m, d)"
    elif len(gallery) == 0:
        wrong = "the gallery is empty"
    elif top < 1 or tile_size < 1:
        wrong = f"top is {top} and tile_size {tile_size}; both are at least 1"
    elif exclude is not None and exclude.shape != queries.shape[:1]:
        wrong = f"exclude has {tuple(exclude.shape)} entries for {len(queries)} queries"
    elif groups is not None and (len(groups[0]), len(groups[1])) != (len(queries), len(gallery)):
        wrong = f"{len(groups[0])} and {len(groups[1])} groups for {len(queries)} queries and {len(gallery)} rows"
    if wrong:
        raise ShapeError(f"Nearest neighbours: {wrong}.", hint="Check the shapes.", reference="topk-arguments")
