"""Does each query find its own answer among the answers of all? Recall@K and mean reciprocal rank."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from tuplet.bounds import Count, Number, bounded
from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, nearness, pair_scores
from tuplet.errors import ShapeError
from tuplet.evaluation.bootstrap import DRAWS, averaged
from tuplet.evaluation.inputs import Arrays, as_tensor, finite_rows
from tuplet.evaluation.result import QueryResult
from tuplet.types import GeometryName

_ROUNDING = 1e-11  # of a float64 product, relative to the squared lengths; what is nearer is scored again


@bounded
def matching(
    queries: Float[Tensor, "queries dim"] | Arrays,
    answers: Float[Tensor, "answers dim"] | Arrays,
    wanted: Int[Tensor, " queries"] | Arrays | None = None,
    *,
    geometry: GeometryName = "cosine",
    top: Sequence[Count] = (1, 5, 10),
    bootstrap: Number = DRAWS,
    seed: int = 0,
    tile_size: Count = SEARCH_TILE,
) -> QueryResult:
    r"""Rank of the one right answer of each query among all answers.

    With g answers nearer than the right one and t as near (itself included), its rank is uniform over g + 1 to g + t:

    $$\mathrm{Recall@K} = \frac{\min(t, \max(0, K - g))}{t}, \quad
    \mathrm{MRR} = \frac{1}{t} \sum_{i=1}^{t} \frac{1}{g + i}$$

    Args:
        queries: Embeddings that ask.
        answers: Embeddings that answer, each different answer once.
        wanted: Row of the right answer of each query; by default answer i belongs to query i.
        geometry: How two embeddings are compared.
        top: Every K of Recall@K.
        bootstrap: Resamples of answers, with the queries that want them, behind the 95 % intervals; 0 for none.
        seed: Of the resamples.
        tile_size: Numbers in one tile; no value depends on it.

    Returns:
        `recall@K` and `mrr`, means over queries: expected values over all orders of equal scores.

    Raises:
        ShapeError: If the arguments do not fit together, or a row holds NaN or infinity.
    """
    asked, given = finite_rows(queries, "queries"), finite_rows(answers, "answers")
    right = torch.arange(len(asked)) if wanted is None else as_tensor(wanted, "wanted rows").detach().cpu().long()
    outside = len(right) and not 0 <= int(right.min()) <= int(right.max()) < len(given)
    if right.shape != (len(asked),) or not len(asked) or outside or not top or min(top) < 1:
        raise ShapeError(
            f"Matching got {len(asked)} queries, {len(given)} answers, {len(right)} wanted rows and top={top}.",
            hint="Give one row of `answers` for each query, one query or more, and each K at least 1.",
            reference="matching-arguments",
        )
    size = tile_size // len(given)
    ranks = [_ranks(asked[rows], given, right[rows], geometry, tile_size) for rows in spans(len(asked), size)]
    above, ties = (torch.cat(part).double() for part in zip(*ranks, strict=True))
    per_query = {f"recall@{k}": (k - above).clamp_min(0).minimum(ties) / ties for k in top}
    per_query["mrr"] = (torch.digamma(above + ties + 1) - torch.digamma(above + 1)) / ties
    counts = {"n_gallery": len(given)}
    settings = {"geometry": geometry, "top": tuple(top)}
    everyone = torch.arange(len(asked))
    return averaged(per_query, everyone, right, counts=counts, settings=settings, bootstrap=bootstrap, seed=seed)


def _ranks(
    asked: Tensor, given: Tensor, wanted: Tensor, geometry: GeometryName, tile_size: int
) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " rows"]]:
    """How many answers are nearer than the right one, and how many are as near."""
    if geometry == "cosine":
        left, right = (torch.nn.functional.normalize(side, dim=1) for side in (asked, given))
    else:
        left, right = asked, given
    keys = left @ right.T
    scale = left.norm(dim=1, keepdim=True) * right.norm(dim=1)
    if geometry.endswith("euclidean"):
        squares = left.square().sum(1, keepdim=True) + right.square().sum(1)
        keys, scale = 2 * keys - squares, squares
    own = keys.gather(1, wanted[:, None])
    band = _ROUNDING * (scale + scale.gather(1, wanted[:, None]))
    above = (keys > own + band).sum(1)
    ties = torch.zeros_like(above)
    close = (keys - own).abs() <= band  # a product cannot tell these apart
    if not geometry.endswith("euclidean"):
        apart = _share_nothing(left, right)  # exactly 0, as is usual among texts
        apart &= apart.gather(1, wanted[:, None])
        ties += apart.sum(1)
        close &= ~apart
    mine = nearness(pair_scores(asked, given[wanted], geometry), geometry)
    for row, column in zip(
        *(part.split(max(1, tile_size // asked.shape[1])) for part in close.nonzero().T), strict=True
    ):
        exact = nearness(pair_scores(asked[row], given[column], geometry), geometry)
        above.index_add_(0, row, (exact > mine[row]).long())
        ties.index_add_(0, row, (exact == mine[row]).long())
    return above, ties


def _share_nothing(left: Tensor, right: Tensor) -> Bool[Tensor, "rows answers"]:
    """Whether no entry is other than 0 in both."""
    if bool((left != 0).all()) or bool((right != 0).all()):
        return torch.zeros(len(left), len(right), dtype=torch.bool, device=left.device)
    return (left != 0).float() @ (right != 0).float().T == 0
