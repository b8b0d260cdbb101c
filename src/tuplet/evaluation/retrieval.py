"""Retrieval: do neighbours share the class of the query, and does each query of a pair find its own answer?

Recall@K, Precision@K, R-Precision, MAP@R, MAP@K, MRR and mAP of neighbour lists; Recall@K and MRR of pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Unpack, get_args

import torch
from jaxtyping import Bool, Float, Int, Int64, Integer
from torch import Tensor

from tuplet.bounds import Count, Number, bounded
from tuplet.engine.topk import SEARCH_TILE, Rows
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, Resampling, averaged
from tuplet.evaluation.inputs import UNKNOWN, Arrays, Groups, as_tensor, embedding_rows, refuse_non_finite
from tuplet.evaluation.ranking import Neighbours, Ranker, Ranking
from tuplet.evaluation.relevance import Junk, Qrels, Relevance, SameClass, Search, mismatch, search_of
from tuplet.evaluation.result import QueryResult
from tuplet.rule import Rule
from tuplet.types import GeometryName

Ties = Literal["expected", "index", "worst"]
Name = Literal["recall", "fractional_recall", "precision", "map@r", "r_precision", "map@k", "mrr@k", "mrr", "map"]
NAMES: tuple[Name, ...] = ("recall", "map@r", "r_precision", "precision")
_WHOLE = ("mrr", "map")
"""Measures that look at the whole ranking."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalResult(QueryResult):
    r"""What `retrieval` found.

    With R relevant rows and P(i) the precision of the first i ranks:

    $$\mathrm{MAP@R} = \frac{1}{R} \sum_{i \le R} P(i)\,\mathrm{rel}(i), \quad
    \mathrm{MAP@K} = \frac{1}{\min(K, R)} \sum_{i \le K} P(i)\,\mathrm{rel}(i)$$

    | measure | its names, and the value of one query |
    | --- | --- |
    | `recall` | `recall@K`, the **hit rate**: 1 if one of the first K is relevant, as metric learning has it |
    | `fractional_recall` | `fractional_recall@K`: relevant rows among the first K, over R |
    | `precision` | `precision@K`: relevant rows among the first K, over K, also where the gallery is smaller |
    | `map@r`, `r_precision` | MAP@R, and the precision of the first R |
    | `map@k`, `mrr@k` | `map@K`; `mrr@K`: 1 over the rank of the first relevant row, 0 beyond K |
    | `map`, `mrr` | the same over all ranks; the whole gallery is ranked for every query |

    Counts: `n_queries` (scored), `n_skipped` (no relevant row in the gallery), `n_unlabelled` (label -1), `n_classes`,
    `n_gallery`, `n_short` (scored queries with fewer neighbours than the largest K).

    References:
        Musgrave, Belongie, Lim, "A Metric Learning Reality Check", 2020 (MAP@R).
    """


@bounded
def retrieval(
    embeddings: Float[Tensor, "queries dim"] | Arrays,
    labels: Integer[Tensor, " queries"] | Arrays | None = None,
    gallery: Rows | Arrays | None = None,
    gallery_labels: Integer[Tensor, " gallery"] | Arrays | None = None,
    *,
    geometry: GeometryName = "cosine",
    groups: Groups | None = None,
    gallery_groups: Groups | None = None,
    junk: Junk = "group",
    qrels: Qrels | None = None,
    relation: Rule | None = None,
    top: Sequence[Count] = (1, 5, 10),
    measures: Sequence[Name] = NAMES,
    ties: Ties = "expected",
    average_precision: bool = False,
    tile_size: Count = SEARCH_TILE,
    neighbours: Neighbours | None = None,
    **resampling: Unpack[Resampling],
) -> RetrievalResult:
    """Evaluate neighbour lists by labels, exactly and without holding the queries x gallery matrix.

    Without a gallery queries are each other's, and none sees itself; copies of it count.

    Args:
        embeddings: Of the queries.
        labels: Their class ids; a query with label -1 is not scored. Not needed with `qrels` or a relation.
        gallery: Embeddings that are ranked, perhaps memory-mapped.
        gallery_labels: Their class ids; a row with label -1 is there but never relevant.
        geometry: How two embeddings are compared.
        groups: Group of each query, such as its camera. `junk` says which neighbours are ignored for it.
        gallery_groups: Group of each gallery row; needed if there are groups and a gallery.
        junk: Neighbours that are left out, as if they were not there: `group`, all of the query's group;
            `class_and_group`, only those of its class *and* its group, the rule of person re-identification.
        qrels: Relevant gallery rows of each query in the place of equal labels; queries are resampled without labels.
        relation: A rule of `tuplet.relations` in that place: its yes is relevant, its nothing left out.
        top: Every K.
        measures: Which measures; `RetrievalResult` says what each is.
        ties: What equal scores count: `expected`, the mean over all orders; `index`, or `worst`, irrelevant rows first.
        average_precision: Also `map`.
        tile_size: Numbers in one tile; no value depends on it, nor on `neighbours`.
        neighbours: Neighbours of the queries among themselves, from `neighbours_of`.
        resampling: Of the 95 % intervals. `resample`: `classes` (the default), as if others had been met, or
            `examples` where these are fixed; `bootstrap`: resamples, 0 for none; `seed`.

    Returns:
        Means over the queries that have a relevant row.

    Raises:
        LabelError: If labels are not one integer per row, or qrels name rows that are not there.
        ShapeError: If arguments do not fit together, or a row is not finite.
        DataError: If no query has a relevant row.

    References:
        Zheng et al., "Scalable Person Re-identification: A Benchmark", 2015, section 4 (junk images).
    """
    search = search_of(embeddings, labels, gallery, gallery_labels, groups, gallery_groups, junk, qrels, relation)
    asked = (*measures, *(("map",) if average_precision and "map" not in measures else ()))
    relevance = {"junk": junk if search.hidden is not None else None, "relevance": _said_by(qrels, relation)}
    return _Retrieval(search, tuple(top), asked, ties).result(geometry, tile_size, relevance, resampling, neighbours)


def neighbours_of(
    embeddings: Float[Tensor, "rows dim"], labels: Int64[Tensor, " rows"], top: Sequence[int], geometry: GeometryName
) -> Neighbours | None:
    """Neighbours of each row among the others, for several calls of `retrieval`; None where they pay for nothing.

    Args:
        embeddings: As for `retrieval`, which gets no gallery.
        labels: As for `retrieval`.
        top: As for `retrieval`.
        geometry: As for `retrieval`.
    """
    relevant = SameClass(labels, labels).tally() - 1
    depth = relevant.clamp_min(max(top)).clamp_max(len(labels) - 1)
    return Neighbours.of(embeddings, depth[relevant > 0], geometry)


def _said_by(qrels: object, relation: object) -> str:
    """What decides which rows are relevant."""
    return "relation" if relation is not None else "labels" if qrels is None else "qrels"


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
        queries: Embeddings of the queries.
        answers: Embeddings that are ranked, each different answer once.
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
    asked, given = embedding_rows(queries, "queries").detach(), embedding_rows(answers, "answers").detach()
    right = torch.arange(len(asked)) if wanted is None else as_tensor(wanted, "wanted rows").detach().cpu().long()
    outside = len(right) and not 0 <= int(right.min()) <= int(right.max()) < len(given)
    if right.shape != (len(asked),) or not len(asked) or outside or not top or min(top) < 1:
        raise ShapeError(
            f"Matching got {len(asked)} queries, {len(given)} answers, {len(right)} wanted rows and top={top}.",
            hint="Give one row of `answers` for each query, one query or more, and each K at least 1.",
            reference="matching-arguments",
        )
    refuse_non_finite(asked, "queries")
    refuse_non_finite(given, "answers")
    ranker = Ranker(asked, given, geometry, tile_size=tile_size)
    above, ties = (part.double().cpu() for part in ranker.rank_of(right.to(asked.device)))
    per_query = {f"recall@{k}": (k - above).clamp_min(0).minimum(ties) / ties for k in top}
    per_query["mrr"] = (torch.digamma(above + ties + 1) - torch.digamma(above + 1)) / ties
    counts = {"n_gallery": len(given)}
    settings = {"geometry": geometry, "top": tuple(top)}
    everyone = torch.arange(len(asked))
    return averaged(per_query, everyone, right, counts=counts, settings=settings, bootstrap=bootstrap, seed=seed)


@dataclass(frozen=True, eq=False)
class _Retrieval:
    search: Search
    top: tuple[int, ...]
    measures: tuple[str, ...]
    ties: Ties

    def result(
        self,
        geometry: GeometryName,
        tile_size: int,
        relevance: Mapping[str, str | None],
        resampling: Resampling,
        known: Neighbours | None = None,
    ) -> RetrievalResult:
        """The means over the scored queries, with what was counted and how it was asked."""
        search, per_query = self.search, self.values(geometry, tile_size, known)
        classes = search.classes[search.scored]
        unlabelled = int((search.classes == UNKNOWN).sum()) if relevance["relevance"] == "labels" else 0
        counts = {
            "n_skipped": len(search.embeddings) - unlabelled - len(classes),
            "n_unlabelled": unlabelled,
            "n_gallery": len(search.gallery),
            "n_short": int((search.available[search.scored] < max(self.top)).sum()),
        }
        how = {"geometry": geometry, "ties": self.ties, "top": self.top, "leave_one_out": search.is_one_set}
        settings = {**how, **relevance}
        found = averaged(per_query, search.scored, classes, counts=counts, settings=settings, **resampling)
        return RetrievalResult(**vars(found))

    def values(
        self, geometry: GeometryName, tile_size: int, known: Neighbours | None = None
    ) -> dict[str, Float[Tensor, " scored"]]:
        """Every measure of every scored query."""
        if not self.top or min(self.top) < 1:
            raise mismatch(f"top is {self.top}; one or more numbers of neighbours, each at least 1, are expected")
        if self.ties not in get_args(Ties):
            raise mismatch(f"ties is {self.ties!r}; one of {', '.join(get_args(Ties))} is expected")
        if not self.measures or not set(self.measures) <= set(get_args(Name)):
            raise mismatch(f"measures are {self.measures}; some of {', '.join(get_args(Name))} are expected")
        scored = self.search.scored
        if not len(scored):
            raise DataError(
                f"None of {len(self.search.embeddings)} queries has a row of its class in the gallery; one is needed.",
                hint="Evaluate classes of two examples or more, or give a gallery that holds the queries' classes.",
                reference="nothing-to-retrieve",
            )
        relevant, available = self.search.relevant[scored], self.search.available[scored]
        deep = any(name in _WHOLE for name in self.measures)
        depth = available if deep else relevant.clamp_min(max(self.top)).minimum(available)
        device, values = self.search.embeddings.device, dict[str, Tensor]()
        relevance, queries = self.search.relevance.to(device), scored.to(device)
        for block in self.search.rank(depth, geometry, tile_size, known):
            hits = _Hits(relevance, queries[block.queries])
            counts = (part[block.queries].to(device) for part in (relevant, available))
            for name, found in self._measure(block, hits, *counts).items():
                empty = torch.zeros(len(scored), dtype=torch.float64, device=device)
                values.setdefault(name, empty)[block.queries] = found
        return {name: found.cpu() for name, found in values.items()}

    def _measure(
        self,
        block: Ranking,
        relevance: "_Hits",
        relevant: Int64[Tensor, " queries"],
        available: Int64[Tensor, " queries"],
    ) -> dict[str, Float[Tensor, " queries"]]:
        hits = relevance.of(block)
        if self.ties != "expected":
            block = block.without_ties(~hits if self.ties == "worst" else None)
            hits = relevance.of(block)
        ties = _Ties.of(block, hits)
        values: dict[str, Tensor] = {}
        for name in self.measures:
            if "@" not in name and name in _WHOLE:
                values[name] = ties.precision_at_hits(relevant) if name == "map" else ties.reciprocal(available)
            elif name == "map@r":
                values[name] = ties.precision_at_hits(relevant, relevant)
            elif name == "r_precision":
                values[name] = ties.hits_within(relevant) / relevant
            else:
                stem = name.removesuffix("@k")
                values |= {f"{stem}@{k}": ties.at(stem, k, relevant, available) for k in self.top}
        return values


@dataclass(frozen=True, eq=False)
class _Hits:
    relevance: Relevance
    queries: Int64[Tensor, " queries"]  # of the block, on the device of its positions

    def of(self, block: Ranking) -> Bool[Tensor, "queries ranks"]:
        """Which ranks hold a relevant row."""
        found = self.relevance.hits(self.queries, block.positions.clamp_min(0))
        return found & (block.positions >= 0)


@dataclass(frozen=True, eq=False)
class _Ties:
    """Expected values over all orders of equal scores, from what is above and inside the tie of each rank."""

    above: Int64[Tensor, "queries ranks"]  # relevant rows above the tie
    inside: Int64[Tensor, "queries ranks"]  # relevant rows in it
    start: Int64[Tensor, "queries ranks"]
    size: Int64[Tensor, "queries ranks"]
    rank: Int64[Tensor, " ranks"]  # from 1

    @classmethod
    def of(cls, block: Ranking, hits: Tensor) -> "_Ties":
        seen = torch.nn.functional.pad(hits.long().cumsum(1), (1, 0))
        above = seen.gather(1, block.start)
        inside = seen.gather(1, block.stop) - above
        ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        return cls(above, inside, block.start, block.stop - block.start, ranks)

    @property
    def chance(self) -> Float[Tensor, "queries ranks"]:
        """That the row at each rank is relevant."""
        return self.inside.double() / self.size

    def hits_within(self, last: Int64[Tensor, " queries"]) -> Float[Tensor, " queries"]:
        """Expected number of relevant rows down to a rank."""
        return _summed(self.chance * (self.rank <= last[:, None]))

    def precision_at_hits(
        self, worth: Int64[Tensor, " queries"], last: Int64[Tensor, " queries"] | None = None
    ) -> Float[Tensor, " queries"]:
        """Expected sum of the precision at each relevant row down to a rank, over `worth`."""
        # Expected number of relevant rows down to this rank, if the row at it is one of them.
        share = (self.inside - 1).double() / (self.size - 1).clamp_min(1)
        gain = self.chance * (self.above + 1 + (self.rank - 1 - self.start) * share) / self.rank
        return _summed(gain if last is None else gain * (self.rank <= last[:, None])) / worth

    def reciprocal(self, last: Int64[Tensor, " queries"]) -> Float[Tensor, " queries"]:
        """Expected 1 / rank of the first relevant row, 0 beyond a rank."""
        hit = _chance_of_a_hit(self.above, self.inside, self.size, self.rank - self.start)
        first = hit.diff(dim=1, prepend=torch.zeros_like(hit[:, :1]))  # that it is at this rank
        return _summed(first / self.rank * (self.rank <= last[:, None]))

    def at(
        self, stem: str, k: int, relevant: Int64[Tensor, " queries"], available: Int64[Tensor, " queries"]
    ) -> Float[Tensor, " queries"]:
        """A measure of the first K ranks."""
        last = available.clamp_max(k)
        if stem == "precision":
            return self.hits_within(last) / k
        if stem == "fractional_recall":
            return self.hits_within(last) / relevant
        if stem == "map":
            return self.precision_at_hits(relevant.clamp_max(k), last)
        if stem == "mrr":
            return self.reciprocal(last)
        at = [part.gather(1, last[:, None] - 1)[:, 0] for part in (self.above, self.inside, self.size, self.start)]
        return _chance_of_a_hit(at[0], at[1], at[2], last - at[3])


def _chance_of_a_hit(above: Tensor, inside: Tensor, size: Tensor, sampled: Tensor) -> Tensor:
    """That one of the first `sampled` rows of a tie in random order is relevant, or a row above it."""
    missing = (size - inside).double()
    miss = torch.exp(  # number of ways to draw irrelevant rows only, over the number of all ways to draw
        torch.lgamma(missing + 1)
        - torch.lgamma((missing - sampled).clamp_min(0) + 1)
        - torch.lgamma(size.double() + 1)
        + torch.lgamma((size - sampled).double() + 1)
    ).where(missing >= sampled, 0.0)
    return (1 - miss.where(inside > 0, 1.0)).where(above == 0, 1.0)


def _summed(terms: Float[Tensor, "queries ranks"]) -> Float[Tensor, " queries"]:
    """Over ranks one after the other: the last bit does not depend on how many zeros follow."""
    return terms.cumsum(1)[:, -1] if terms.shape[1] else terms.sum(1)
