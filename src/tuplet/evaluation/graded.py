"""Does nearness follow the labels where labels are numbers? NDCG@K, label distance of neighbours, rank correlation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.bounds import Count, Number, bounded
from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, nearness, pair_scores, topk
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, FEW_CLASSES, average, percentile_interval
from tuplet.evaluation.correlation import rank_correlation, resampled_correlations
from tuplet.evaluation.inputs import Arrays, as_tensor, embedding_rows
from tuplet.evaluation.pairs import product_pairs, scores_of, unordered_pairs
from tuplet.evaluation.ranking import Ranker, tie_bounds
from tuplet.evaluation.result import Estimates, QueryResult
from tuplet.keys import LabelDistance
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
    label_distance: LabelDistance | None = None,
    geometry: GeometryName = "cosine",
    top: Sequence[Count] = (1, 5, 10),
    gain: Gain = "inverse",
    max_pairs: Count = 50_000,
    bootstrap: Number = DRAWS,
    seed: int = 0,
) -> GradedResult:
    r"""Evaluate neighbours by how far their labels are: D is the Euclidean distance of two labels, or one of your own.

    $$\mathrm{NDCG@K} = \frac{\sum_{i \le K} g_i / \log_2(i + 1)}{\text{the same for the } K \text{ nearest labels}}$$

    Args:
        embeddings: Embeddings of the queries.
        targets: Their labels: one number or several for each.
        gallery: Embeddings that are ranked; by default the queries, none to itself.
        gallery_targets: Their labels.
        label_distance: D of labels (rows, values) and (cols, values), (rows, cols), at least 0.
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
    task = _task(asked, targets, answers, gallery_targets, geometry, tuple(top), gain, label_distance)
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
class _Labels:
    """Labels of queries and gallery, and how far apart they are."""

    mine: Float[Tensor, "queries values"]
    theirs: Float[Tensor, "gallery values"]
    own: LabelDistance | None

    def nearest(self, depth: int, exclude: Tensor | None) -> Float[Tensor, "queries depth"]:
        """Distances of the nearest labels of each query, ascending."""
        if self.own is None:
            return topk(self.mine, self.theirs, depth, "euclidean", exclude=exclude).scores
        found = self.mine.new_empty(len(self.mine), depth)
        for rows, apart in self._rows(torch.arange(len(self.mine), device=self.mine.device)):
            seen = apart if exclude is None else apart.scatter(1, exclude[rows, None], torch.inf)
            found[rows] = seen.topk(depth, largest=False).values
        return found

    def at(self, queries: Tensor, positions: Tensor) -> Float[Tensor, "queries ranks"]:
        """Distances to the gallery rows at some positions."""
        if self.own is None:
            theirs = self.theirs[positions]  # (queries, ranks, values)
            return pair_scores(self.mine[queries][:, None].expand_as(theirs), theirs, "euclidean")
        found = self.mine.new_empty(positions.shape)
        for rows, apart in self._rows(queries.to(self.mine.device)):
            found[rows] = apart.gather(1, positions[rows])
        return found

    def of_pairs(self, first: Tensor, second: Tensor) -> Float[Tensor, " pairs"]:
        """Distances of listed pairs."""
        if self.own is None:
            return scores_of(self.mine, first, self.theirs, second, "euclidean")
        queries, row = torch.unique(first, return_inverse=True)
        found = self.mine.new_empty(len(first))
        for rows, apart in self._rows(queries):
            here = ((row >= rows.start) & (row < rows.stop)).nonzero()[:, 0]
            found[here] = apart[row[here] - rows.start, second[here]]
        return found

    def _rows(self, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Distances of some queries to the whole gallery, a few queries at a time."""
        assert self.own is not None  # noqa: S101  asked of no others
        for rows in spans(len(queries), SEARCH_TILE // max(1, len(self.theirs))):
            yield rows, self.own(self.mine[queries[rows]], self.theirs).double()


@dataclass(frozen=True, eq=False)
class _Task:
    embeddings: Tensor
    gallery: Tensor
    labels: _Labels
    geometry: GeometryName
    top: tuple[int, ...]
    gain: Gain
    is_one_set: bool

    def values(self) -> dict[str, Float[Tensor, " queries"]]:
        """Every measure of every query."""
        depth = min(max(self.top), len(self.gallery) - int(self.is_one_set))
        device = self.embeddings.device
        own = torch.arange(len(self.embeddings), device=device) if self.is_one_set else None
        ideal = self._gains(self.labels.nearest(depth, own))
        names = [*(f"ndcg@{k}" for k in self.top), *(f"label_distance@{k}" for k in self.top)]
        values = {name: torch.zeros(len(self.embeddings), dtype=torch.float64, device=device) for name in names}
        ranker = Ranker(self.embeddings, self.gallery, self.geometry, exclude=own)
        for block in ranker.to_depth(torch.full((len(self.embeddings),), depth)):
            distances = self.labels.at(block.queries, block.positions.clamp_min(0))
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
        return -nearness(scores, self.geometry), self.labels.of_pairs(first, second), members

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
    own: LabelDistance | None,
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
        return _Task(embeddings, embeddings, _Labels(mine, mine, own), geometry, top, gain, is_one_set=True)
    theirs = _numbers(gallery_targets, len(gallery), "gallery_targets").to(embeddings.device)
    return _Task(embeddings, gallery, _Labels(mine, theirs, own), geometry, top, gain, is_one_set=False)


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
