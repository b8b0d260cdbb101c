"""Are pairs that people call more alike nearer? Rank correlation over pairs with a score each."""

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.bounds import Number, bounded
from tuplet.engine.topk import nearness, pair_scores
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, FEW_CLASSES, average, percentile_interval
from tuplet.evaluation.correlation import rank_correlation, resampled_correlations
from tuplet.evaluation.inputs import Arrays, as_tensor, embedding_rows
from tuplet.evaluation.result import QueryResult
from tuplet.types import GeometryName

_CORRELATION_DRAWS = 200  # each of them ranks all pairs twice


@bounded
def scored_pairs(
    embeddings: Float[Tensor, "pairs dim"] | Arrays,
    partners: Float[Tensor, "pairs dim"] | Arrays,
    scores: Num[Tensor, " pairs"] | Num[Tensor, "pairs 1"] | Arrays,
    *,
    geometry: GeometryName = "cosine",
    bootstrap: Number = DRAWS,
    seed: int = 0,
) -> QueryResult:
    """Rank correlation of how near the sides of pairs are with a score of each pair.

    Args:
        embeddings: First sides.
        partners: Second sides; row i of both is pair i.
        scores: Larger for pairs that are more alike.
        geometry: How two embeddings are compared.
        bootstrap: Resamples of pairs behind the 95 % intervals, of which at most 200 are taken; 0 for none.
        seed: Of the resamples.

    Returns:
        `spearman` and `kendall`, NaN if all scores, or all similarities, are equal; and `rank_gap`, the mean difference
        of the two ranks of a pair as a share of all pairs: 0 for the same order, 1/3 for random ones.

    Raises:
        ShapeError: If there are not as many second sides as first ones.
        LabelError: If there is not one finite score for each pair.
        MissingExtraError: If scipy is not installed.
    """
    first, second = embedding_rows(embeddings), embedding_rows(partners, "partners")
    if first.shape != second.shape:
        raise ShapeError(
            f"embeddings have shape {tuple(first.shape)}, partners {tuple(second.shape)}.",
            hint="Row i of both is a pair: pass as many rows of the same length.",
            reference="embedding-shape",
        )
    asked = _checked(scores, len(first))
    near = nearness(pair_scores(first, second, geometry), geometry).cpu()
    values = rank_correlation(near, asked)
    rows, apart = torch.arange(len(first)), (_ranks(near) - _ranks(asked)).abs() / max(1, len(first))
    micro, macro = average({"rank_gap": apart}, rows, bootstrap, seed, "examples")
    lower, upper, draws = dict(micro.lower), dict(micro.upper), {}
    if bootstrap:
        found = _resampled(near, asked, min(bootstrap, _CORRELATION_DRAWS), seed)
        draws = dict(zip(values, found.T, strict=True))
        for name, (low, high) in zip(values, percentile_interval(found).T.tolist(), strict=True):
            lower[name], upper[name] = low, high
    return QueryResult(
        values={**values, **micro.values},
        lower=lower,
        upper=upper,
        macro=macro,
        per_query={"rank_gap": apart},
        queries=rows,
        classes=rows,
        units=rows,
        draws=draws,
        counts={"n_queries": len(rows), "n_pairs": len(rows)},
        settings={"geometry": geometry, "resample": "examples", "bootstrap": bootstrap, "seed": seed},
        few_classes=len(rows) < FEW_CLASSES,
    )


def _checked(scores: Tensor | Arrays, pairs: int) -> Tensor:
    """One finite score for each pair."""
    asked = as_tensor(scores, "scores").detach().cpu().double()
    asked = asked[:, 0] if asked.ndim == 2 and asked.shape[1] == 1 else asked
    if asked.shape != (pairs,) or not bool(asked.isfinite().all()):
        raise LabelError(
            f"scores have shape {tuple(asked.shape)} for {pairs} pairs, or hold NaN or infinity.",
            hint="Pass one finite number per pair, larger for pairs that are more alike.",
            reference="graded-targets",
        )
    return asked


def _resampled(near: Tensor, asked: Tensor, draws: int, seed: int) -> Tensor:
    """Correlations of resampled pairs, (draws, measures)."""
    sampled = resampled_correlations(near, asked, torch.arange(len(near))[:, None], len(near), draws, seed)
    return torch.tensor([list(one.values()) for one in sampled], dtype=torch.float64)


def _ranks(values: Tensor) -> Tensor:
    """Place of each number among all, from 1; equal ones share the mean of theirs."""
    _, codes, sizes = torch.unique(values, return_inverse=True, return_counts=True)
    return (sizes.cumsum(0) - (sizes - 1) / 2).double()[codes]
