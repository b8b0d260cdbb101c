"""Does nearness follow the labels where labels are numbers? NDCG@K, label distance of neighbours, rank correlation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.bounds import Count, Number, bounded
from tuplet.engine.topk import nearness, pair_scores, topk
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, FEW_CLASSES, average, percentile_interval
from tuplet.evaluation.correlation import rank_correlation, resampled_correlations
from tuplet.evaluation.inputs import Arrays, as_tensor, embedding_rows
from tuplet.evaluation.pairs import product_pairs, scores_of, unordered_pairs
from tuplet.evaluation.ranking import Ranker, Ranking, tie_bounds
from tuplet.evaluation.result import Estimates, QueryResult
from tuplet.seeding import derive
from tuplet.types import GeometryName

Gain = Literal["inverse", "exponential"]
_CORRELATION_DRAWS = 200  # each of them ranks all pairs twice


@dataclass(frozen=True, eq=False, kw_only=True)
class GradedResult(QueryResult):
    """What `graded` found: `ndcg@K`, `label_distance@K`, `label_gap@K` (means over queries), `spearman`, `kendall`.

    `label_gap@K` is `label_distance@K` divided by the mean label distance of the pairs that the correlations are taken
    over: 1 for neighbours sampled at random. Every query is a class of its own, so the macro averages are the micro
    averages, and queries are what is resampled.
    """


@bounded
def graded(
    embeddings: Float[Tensor, "queries dim"] | Arrays,
    targets: Num[Tensor, " queries"] | Num[Tensor, "queries values"] | Arrays,
    gallery: Float[Tensor, "gallery dim"] | Arrays | None = None,
    gallery_targets: Num[Tensor, " gallery"] | Num[Tensor, "gallery values"] | Arrays | None = None,
    *,
    geometry: GeometryName = "cosine",
    top: Sequence[Count] = (1, 5, 10),
    gain: Gain = "inverse",
    max_pairs: Count = 50_000,
    bootstrap: Number = DRAWS,
    seed: int = 0,
) -> GradedResult:
    r"""Evaluate neighbours by how far their labels are: D is the Euclidean distance of two labels.

    $$\mathrm{NDCG@K} = \frac{\sum_{i \le K} g_i / \log_2(i + 1)}{\text{the same for the } K \text{ nearest labels}}$$

    Args:
        embeddings: Embeddings of the queries.
        targets: Their labels: one number or several for each.
        gallery: Embeddings that are ranked; by default the queries, none to itself.
        gallery_targets: Their labels.
        geometry: How two embeddings are compared.
        top: Every K.
        gain: g of a neighbour: `inverse` is 1 / (1 + D), `exponential` is 2^(1 / (1 + D)) - 1.
        max_pairs: The correlations between distances and D are taken over all pairs, or over so many drawn ones.
        bootstrap: Resamples of queries behind the 95 % intervals (at most 200 for the correlations); 0 for none.
        seed: Of pairs and resamples.

    Returns:
        Expected values over all orders of equal scores.

    Raises:
        ShapeError: If arguments do not fit together.
        LabelError: If labels are not one finite number, or row of numbers, per embedding.
        MissingExtraError: If scipy is not installed.
    """
    asked = embedding_rows(embeddings)
    answers = None if gallery is None else embedding_rows(gallery, "gallery")
    task = _task(asked, targets, answers, gallery_targets, geometry, tuple(top), gain)
    per_query, pairs = task.values(), task.distances_of_pairs(max_pairs, seed)
    random = pairs[1].mean()
    per_query |= {f"label_gap@{k}": per_query[f"label_distance@{k}"] / random for k in task.top}
    micro, _ = average(per_query, torch.arange(len(asked)), bootstrap, seed)
    return _result(task, per_query, micro, pairs, bootstrap, seed)


def ndcg(
    gains: Float[Tensor, "queries items"] | Arrays, scores: Float[Tensor, "queries items"] | Arrays, top: Sequence[int]
) -> dict[str, Float[Tensor, " queries"]]:
    """NDCG@K of given gains, larger scores first, as the expected value over all orders of equal scores.

    Args:
        gains: What each item is worth to each query, at least 0.
        scores: By which the items are ranked.
        top: Every K.

    Returns:
        `ndcg@K` of each query; NaN where all gains are 0.
    """
    worth, keys = embedding_rows(gains, "gains").detach().double(), embedding_rows(scores, "scores").detach().double()
    descending, order = keys.sort(dim=1, descending=True, stable=True)
    start, stop = tie_bounds(descending)
    expected = _tie_means(worth.gather(1, order), start, stop)
    ideal = worth.sort(dim=1, descending=True).values
    return {f"ndcg@{k}": _discounted(expected, k) / _discounted(ideal, k) for k in top}


@dataclass(frozen=True, eq=False)
class _Task:
    embeddings: Tensor
    targets: Float[Tensor, "queries values"]
    gallery: Tensor
    gallery_targets: Float[Tensor, "gallery values"]
    geometry: GeometryName
    top: tuple[int, ...]
    gain: Gain
    is_one_set: bool

    def values(self) -> dict[str, Float[Tensor, " queries"]]:
        """Every measure of every query."""
        depth = min(max(self.top), len(self.gallery) - int(self.is_one_set))
        device = self.embeddings.device
        own = torch.arange(len(self.embeddings), device=device) if self.is_one_set else None
        nearest = topk(self.targets, self.gallery_targets, depth, "euclidean", exclude=own)
        ideal = self._gains(nearest.scores)
        names = [*(f"ndcg@{k}" for k in self.top), *(f"label_distance@{k}" for k in self.top)]
        values = {name: torch.zeros(len(self.embeddings), dtype=torch.float64, device=device) for name in names}
        ranker = Ranker(self.embeddings, self.gallery, self.geometry, exclude=own)
        for block in ranker.to_depth(torch.full((len(self.embeddings),), depth)):
            distances = self._label_distances(block)
            expected = _tie_means(self._gains(distances), block.start, block.stop)
            distances = _tie_means(distances, block.start, block.stop)
            for k in self.top:
                share = _discounted(expected, min(k, depth)) / _discounted(ideal[block.queries], k)
                values[f"ndcg@{k}"][block.queries] = share
                values[f"label_distance@{k}"][block.queries] = distances[:, : min(k, depth)].mean(1)
        return {name: found.cpu() for name, found in values.items()}

    def distances_of_pairs(self, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of embeddings and of labels of each pair, and the rows it is made of that can be resampled."""
        generator = derive(seed, "pairs")
        if self.is_one_set:
            first, second = unordered_pairs(len(self.embeddings), most, generator)
            members = torch.stack([first, second], 1)
        else:
            first, second = product_pairs(len(self.embeddings), len(self.gallery), most, generator)
            members = first[:, None]
        scores = scores_of(self.embeddings, first, self.gallery, second, self.geometry)
        labels = scores_of(self.targets, first, self.gallery_targets, second, "euclidean")
        return -nearness(scores, self.geometry), labels, members

    def _label_distances(self, block: Ranking) -> Tensor:
        theirs = self.gallery_targets[block.positions.clamp_min(0)]  # (queries, ranks, values)
        return pair_scores(self.targets[block.queries][:, None].expand_as(theirs), theirs, "euclidean")

    def _gains(self, distances: Tensor) -> Tensor:
        closeness = 1 / (1 + distances)
        return closeness if self.gain == "inverse" else torch.exp2(closeness) - 1


def _task(
    embeddings: Tensor,
    targets: Tensor | Arrays,
    gallery: Tensor | None,
    gallery_targets: Tensor | Arrays | None,
    geometry: GeometryName,
    top: tuple[int, ...],
    gain: Gain,
) -> _Task:
    one_set = gallery is None
    if one_set != (gallery_targets is None) or not top or min(top) < 1 or (one_set and len(embeddings) < 2):
        raise ShapeError(
            f"Graded retrieval got {len(embeddings)} queries, top={top}, and "
            f"{'no gallery' if one_set else 'a gallery'} with{'out' if gallery_targets is None else ''} targets.",
            hint="Give gallery and gallery_targets together, or two queries or more; each K is at least 1.",
            reference="graded-arguments",
        )
    mine = _numbers(targets, len(embeddings), "targets").to(embeddings.device)
    if gallery is None or gallery_targets is None:
        return _Task(embeddings, mine, embeddings, mine, geometry, top, gain, is_one_set=True)
    theirs = _numbers(gallery_targets, len(gallery), "gallery_targets").to(embeddings.device)
    return _Task(embeddings, mine, gallery, theirs, geometry, top, gain, is_one_set=False)


def _numbers(targets: Tensor | Arrays, rows: int, name: str) -> Float[Tensor, "rows values"]:
    values = as_tensor(targets, name).detach().cpu().double()
    if not values.ndim or len(values) != rows or values.ndim > 2 or not values.isfinite().all():
        raise LabelError(
            f"{name} have shape {tuple(values.shape)} and {int((~values.isfinite()).sum())} numbers that are not "
            f"finite; one finite number, or row of numbers, for each of {rows} embeddings is expected.",
            hint="Leave out examples whose target is missing.",
            reference="graded-targets",
        )
    return values.reshape(rows, -1)


def _result(
    task: _Task,
    per_query: dict[str, Tensor],
    micro: Estimates,
    pairs: tuple[Tensor, Tensor, Tensor],
    bootstrap: int,
    seed: int,
) -> GradedResult:
    distances, labels, members = pairs
    rows = len(task.embeddings)
    correlations = rank_correlation(distances, labels)
    lower, upper, draws = dict(micro.lower), dict(micro.upper), {}
    if bootstrap:
        sampled = resampled_correlations(distances, labels, members, rows, min(bootstrap, _CORRELATION_DRAWS), seed)
        found = torch.tensor([list(one.values()) for one in sampled], dtype=torch.float64)
        draws = dict(zip(correlations, found.T, strict=True))
        for name, (low, high) in zip(correlations, percentile_interval(found).T.tolist(), strict=True):
            lower[name], upper[name] = low, high
    return GradedResult(
        values={**micro.values, **correlations},
        lower=lower,
        upper=upper,
        macro=micro,
        per_query=per_query,
        queries=torch.arange(rows),
        classes=torch.arange(rows),
        units=torch.arange(rows),
        draws=draws,
        counts={"n_queries": rows, "n_gallery": len(task.gallery), "n_pairs": len(labels)},
        settings={
            "geometry": task.geometry,
            "top": task.top,
            "gain": task.gain,
            "bootstrap": bootstrap,
            "seed": seed,
        },
        few_classes=rows < FEW_CLASSES,
    )


def _tie_means(values: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Mean of the values that tie with each rank."""
    sums = torch.nn.functional.pad(values.cumsum(1), (1, 0))
    size = stop - start
    return values.where(size == 1, (sums.gather(1, stop) - sums.gather(1, start)) / size)


def _discounted(gains: Tensor, k: int) -> Tensor:
    gains = gains[:, :k]
    return (gains / torch.log2(torch.arange(2, gains.shape[1] + 2, dtype=torch.float64, device=gains.device))).sum(1)
