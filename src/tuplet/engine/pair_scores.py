"""Scores of pairs for search: exact ones by one fixed order of float64 operations, approximate ones with a bound.

Larger is nearer: distances are negated.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tuplet.geometry import geometry_of
from tuplet.types import GeometryName

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, eq=False)
class ApproximateScorer:
    """Rows ready for matrix products. Scores of distances are squares, negated, until `rooted`.

    Attributes:
        rows: Normalised for cosine, less `centre` for distances.
        norms: Their lengths.
        centre: Mean of the rows that ask.
        geometry: How two rows are compared.
    """

    rows: Tensor
    norms: Tensor
    centre: Tensor
    geometry: GeometryName

    @classmethod
    def of(cls, rows: Tensor, dtype: torch.dtype, geometry: GeometryName) -> "ApproximateScorer":
        """Rows that ask."""
        distance = geometry_of(geometry).kind == "distance"
        # Norms decide the error of a distance; any shift leaves the distance, the mean leaves short rows.
        centre = rows.mean(0, dtype=torch.float64).to(dtype) if distance else rows.new_zeros((), dtype=dtype)
        moved = prepared_rows(rows, geometry).to(dtype) - centre
        return cls(moved, torch.linalg.vector_norm(moved, dim=1), centre, geometry)

    def of_gallery(self, rows: Tensor, *, overwrite: bool = False) -> "ApproximateScorer":
        """The same preparation of a tile of the gallery, but for normalising, which `scores` does to the products.

        Args:
            rows: The tile.
            overwrite: Whether `rows` are a copy that nobody else reads: written over, it stays in the cache.
        """
        moved = rows.to(self.rows.dtype)
        if self.centre.ndim:
            moved = moved.sub_(self.centre) if overwrite else moved - self.centre
        norms = torch.linalg.vector_norm(moved, dim=1)
        return ApproximateScorer(moved, norms, self.centre, self.geometry)

    def scores(self, tile: "ApproximateScorer", rows: slice) -> Tensor:
        """Approximate scores of some rows and a tile of the gallery."""
        scores = self.rows[rows] @ tile.rows.T
        if self.geometry == "cosine":
            return scores.div_(tile.norms.clamp_min(_SMALLEST_NORM))
        if self.geometry == "dot":
            return scores
        return scores.mul_(2).sub_(tile.norms.square()).sub_(self.norms[rows, None].square())

    def error_bound(self, longest: Tensor) -> Tensor:
        """Bound of |approximate - exact score| for each query, where no row of the gallery is longer than `longest`.

        A product of n terms errs by n roundings at most.
        """
        longest = longest.double()
        norms, limits = self.norms.double(), torch.finfo(self.rows.dtype)
        if self.geometry == "cosine":
            size = torch.ones_like(norms)
        elif self.geometry == "dot":
            size = norms * longest
        else:
            size = (norms + longest).square()
        return (self.rows.shape[1] + 16) * (limits.eps * size + limits.tiny)


def prepared_rows(rows: Tensor, geometry: GeometryName) -> Tensor:
    """Rows for `exact_score`, in float64; of length 1 for cosine."""
    rows = rows.double()
    if geometry != "cosine":
        return rows
    return rows / norm_of(rows)[..., None]


def norm_of(rows: Tensor) -> Tensor:
    """Lengths in float64 by the one fixed order of operations, so that they can be kept and used again."""
    return _sum(rows.double().square()).sqrt().clamp_min(_SMALLEST_NORM)


def exact_score(first: Tensor, second: Tensor, geometry: GeometryName) -> Tensor:
    """Scores of prepared rows; equal rows have equal scores, wherever they lie."""
    if geometry_of(geometry).kind == "similarity":
        return _sum(first * second)
    return rooted(-_sum((first - second).square_()), geometry)


def rooted(scores: Tensor, geometry: GeometryName) -> Tensor:
    """Scores from negated squares, where the geometry is Euclidean; others as they are."""
    return -scores.neg().clamp_min(0).sqrt() if geometry == "euclidean" else scores


def _sum(terms: Tensor) -> Tensor:
    """Sum over the last axis by halves; overwrites `terms`. Elementwise additions have no panel to depend on."""
    width = terms.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        terms[..., : width - half] += terms[..., half:width]
        width = half
    return terms[..., 0]
