"""How well neighbours share the label of the query: Recall@K, Precision@K, R-Precision, MAP@R, mAP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tuplet.engine.topk import SEARCH_TILE, Rows
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, averaged
from tuplet.evaluation.inputs import UNKNOWN, Groups, class_labels, common_codes, group_codes
from tuplet.evaluation.ranking import Ranking, ranked, without_ties
from tuplet.evaluation.result import QueryResult
from tuplet.types import GeometryName

Ties = Literal["expected", "index", "worst"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalResult(QueryResult):
    """What `retrieval` found.

    The names are `recall@K`, `map@r`, `r_precision`, `precision@K` and, if asked for, `map`. Counts: `n_queries`
    (scored), `n_skipped` (no relevant row in the gallery), `n_unlabelled` (label -1), `n_classes`, `n_gallery`,
    `n_short` (scored queries with fewer neighbours than the largest K, which then is their number).
    """


def retrieval(
    embeddings: Float[Tensor, "queries dim"],
    labels: Int[Tensor, " queries"],
    gallery: Rows | None = None,
    gallery_labels: Int[Tensor, " gallery"] | None = None,
    *,
    geometry: GeometryName = "cosine",
    groups: Groups | None = None,
    gallery_groups: Groups | None = None,
    top: Sequence[int] = (1, 5, 10),
    ties: Ties = "expected",
    average_precision: bool = False,
    bootstrap: int = DRAWS,
    seed: int = 0,
    tile_size: int = SEARCH_TILE,
) -> RetrievalResult:
    r"""Judge neighbour lists by labels, exactly and without holding the queries x gallery matrix.

    $$\mathrm{MAP@R} = \frac{1}{R} \sum_{i \le R} P(i)\,\mathrm{rel}(i)$$ with R relevant rows and P(i) the precision of
    the first i. Without a gallery the queries are each other's, and none sees itself; copies of it count.

    Args:
        embeddings: Embeddings that ask.
        labels: Their class ids; a query with label -1 is not asked.
        gallery: Embeddings that answer, in memory or memory-mapped.
        gallery_labels: Their class ids; a row with label -1 is there but never relevant.
        geometry: How two embeddings are compared.
        groups: Group of each query. Neighbours of the query's own group are ignored, as if they were not there.
        gallery_groups: Group of each gallery row; needed if there are groups and a gallery.
        top: Every K of Recall@K (share of queries with a relevant row among the first K) and Precision@K.
        ties: What equal scores count. `expected`: the mean over all their orders; `index`: the lower position is
            first; `worst`: irrelevant rows are first.
        average_precision: Also `map`, the same sum over all ranks; ranks the whole gallery for every query.
        bootstrap: Resamples of classes behind the 95 % intervals; 0 for none.
        seed: Of the resamples.
        tile_size: Numbers in one tile; no value depends on it.

    Returns:
        Means over the queries that have a relevant row.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If arguments do not fit together, or a row holds NaN or infinity.
        DataError: If no query has a relevant row.

    References:
        Musgrave, Belongie, Lim, "A Metric Learning Reality Check", 2020 (MAP@R).
    """
    task = _task(embeddings, labels, gallery, gallery_labels, groups, gallery_groups)
    judge = _Judge(task, tuple(top), ties, average_precision)
    return _result(judge, judge.values(geometry, tile_size), geometry, bootstrap, seed)


@dataclass(frozen=True, eq=False)
class _Task:
    """Who asks, who answers, and who counts."""

    embeddings: Tensor
    labels: Int64[Tensor, " queries"]
    gallery: Rows
    gallery_labels: Int64[Tensor, " gallery"]
    groups: tuple[Int64[Tensor, " queries"], Int64[Tensor, " gallery"]] | None
    is_one_set: bool

    @cached_property
    def relevant(self) -> Int64[Tensor, " queries"]:
        """How many gallery rows are of each query's class, without ignored ones."""
        if self.groups is None:
            return _tally(self.labels, self.gallery_labels) - int(self.is_one_set)
        codes = torch.unique(torch.cat([self.labels, self.gallery_labels]), return_inverse=True)[1]
        pairs = codes + len(codes) * torch.cat(self.groups)  # label and group as one number
        ignored = _tally(pairs[: len(self.labels)], pairs[len(self.labels) :])
        return _tally(self.labels, self.gallery_labels) - ignored

    @cached_property
    def available(self) -> Int64[Tensor, " queries"]:
        """How many gallery rows each query can have, without ignored ones."""
        everything = torch.full_like(self.labels, len(self.gallery_labels))
        return everything - (int(self.is_one_set) if self.groups is None else _tally(*self.groups))

    @cached_property
    def scored(self) -> Int64[Tensor, " scored"]:
        """Queries with something to find."""
        return ((self.labels != UNKNOWN) & (self.relevant > 0)).nonzero()[:, 0]

    def rank(self, depth: Int64[Tensor, " scored"], geometry: GeometryName, tile_size: int) -> Iterator[Ranking]:
        device = self.embeddings.device
        own = self.scored.to(device)
        return ranked(
            self.embeddings[own],
            self.gallery,
            depth,
            geometry,
            exclude=own if self.is_one_set else None,
            groups=(self.groups[0][self.scored].to(device), self.groups[1].to(device)) if self.groups else None,
            tile_size=tile_size,
        )


def _task(
    embeddings: Tensor,
    labels: Tensor,
    gallery: Rows | None,
    gallery_labels: Tensor | None,
    groups: Groups | None,
    gallery_groups: Groups | None,
) -> _Task:
    mine = class_labels(labels, len(embeddings))
    own = group_codes(groups, len(embeddings), "groups")
    if gallery is None:
        if gallery_labels is not None or gallery_groups is not None:
            raise _mismatch("gallery_labels or gallery_groups came without a gallery")
        codes = None if own is None else common_codes(own, own)
        return _Task(embeddings, mine, embeddings, mine, codes, is_one_set=True)
    if gallery_labels is None or (groups is None) != (gallery_groups is None):
        raise _mismatch("a gallery came without gallery_labels, or only one of groups and gallery_groups was given")
    theirs = class_labels(gallery_labels, len(gallery), "gallery_labels")
    other = group_codes(gallery_groups, len(gallery), "gallery_groups")
    codes = None if own is None or other is None else common_codes(own, other)
    return _Task(embeddings, mine, gallery, theirs, codes, is_one_set=False)


def _mismatch(what: str) -> ShapeError:
    return ShapeError(
        f"Retrieval: {what}.",
        hint="Give gallery, gallery_labels and, with groups, gallery_groups together; top=(1, 5, 10), ties='expected'.",
        reference="retrieval-arguments",
    )


def _tally(wanted: Int64[Tensor, " wanted"], among: Int64[Tensor, " among"]) -> Int64[Tensor, " wanted"]:
    distinct, counts = torch.unique(among, return_counts=True)
    at = torch.searchsorted(distinct, wanted).clamp_max(len(distinct) - 1)
    return counts[at].where(distinct[at] == wanted, 0)


@dataclass(frozen=True, eq=False)
class _Judge:
    task: _Task
    top: tuple[int, ...]
    ties: Ties
    average_precision: bool

    def values(self, geometry: GeometryName, tile_size: int) -> dict[str, Float[Tensor, " scored"]]:
        """Every measure of every scored query."""
        if not self.top or min(self.top) < 1:
            raise _mismatch(f"top is {self.top}; one or more numbers of neighbours, each at least 1, are expected")
        if self.ties not in get_args(Ties):
            raise _mismatch(f"ties is {self.ties!r}; one of {', '.join(get_args(Ties))} is expected")
        scored = self.task.scored
        if not len(scored):
            raise DataError(
                f"None of {len(self.task.labels)} queries has a row of its class in the gallery; one is needed.",
                hint="Judge on classes of two examples or more, or give a gallery that holds the queries' classes.",
                reference="nothing-to-retrieve",
            )
        relevant, available = self.task.relevant[scored], self.task.available[scored]
        depth = available if self.average_precision else relevant.clamp_min(max(self.top)).minimum(available)
        names = [*(f"recall@{k}" for k in self.top), "map@r", "r_precision", *(f"precision@{k}" for k in self.top)]
        names += ["map"] if self.average_precision else []
        values = {name: torch.zeros(len(scored), dtype=torch.float64) for name in names}
        for block in self.task.rank(depth, geometry, tile_size):
            for name, found in self._measure(block, relevant[block.queries], available[block.queries]).items():
                values[name][block.queries] = found
        return values

    def _measure(
        self, block: Ranking, relevant: Int64[Tensor, " queries"], available: Int64[Tensor, " queries"]
    ) -> dict[str, Float[Tensor, " queries"]]:
        hits = self._hits(block)
        if self.ties != "expected":
            block = without_ties(block, ~hits if self.ties == "worst" else None)
            hits = self._hits(block)
        seen = torch.nn.functional.pad(hits.long().cumsum(1), (1, 0))
        above = seen.gather(1, block.start)  # relevant rows above the tie
        inside = seen.gather(1, block.stop) - above
        size = block.stop - block.start
        rank = torch.arange(1, hits.shape[1] + 1)
        chance = inside.double() / size  # that the row at this rank is relevant
        # Expected number of relevant rows down to this rank, if the row at it is one of them.
        found = above + 1 + (rank - 1 - block.start) * (inside - 1).double() / (size - 1).clamp_min(1)
        gain = chance * found / rank
        within = rank <= relevant[:, None]
        values = {
            "map@r": (gain * within).sum(1) / relevant,
            "r_precision": (chance * within).sum(1) / relevant,
        }
        if self.average_precision:
            values["map"] = gain.sum(1) / relevant
        for k in self.top:
            last = available.clamp_max(k)
            values[f"precision@{k}"] = (chance * (rank <= last[:, None])).sum(1) / last
            at = [part.gather(1, last[:, None] - 1)[:, 0] for part in (above, inside, size, block.start)]
            values[f"recall@{k}"] = _chance_of_a_hit(at[0], at[1], at[2], last - at[3])
        return values

    def _hits(self, block: Ranking) -> Tensor:
        labels = self.task.gallery_labels[block.positions.clamp_min(0)]
        return (labels == self.task.labels[self.task.scored[block.queries]][:, None]) & (block.positions >= 0)


def _chance_of_a_hit(above: Tensor, inside: Tensor, size: Tensor, drawn: Tensor) -> Tensor:
    """That one of the first `drawn` rows of a tie in random order is relevant, or a row above it."""
    missing = (size - inside).double()
    miss = torch.exp(  # number of ways to draw irrelevant rows only, over the number of all ways to draw
        torch.lgamma(missing + 1)
        - torch.lgamma((missing - drawn).clamp_min(0) + 1)
        - torch.lgamma(size.double() + 1)
        + torch.lgamma((size - drawn).double() + 1)
    ).where(missing >= drawn, 0.0)
    return (1 - miss.where(inside > 0, 1.0)).where(above == 0, 1.0)


def _result(
    judge: _Judge, per_query: dict[str, Tensor], geometry: GeometryName, bootstrap: int, seed: int
) -> RetrievalResult:
    task = judge.task
    classes = task.labels[task.scored]
    unlabelled = int((task.labels == UNKNOWN).sum())
    counts = {
        "n_skipped": len(task.labels) - unlabelled - len(classes),
        "n_unlabelled": unlabelled,
        "n_gallery": len(task.gallery_labels),
        "n_short": int((task.available[task.scored] < max(judge.top)).sum()),
    }
    settings = {
        "geometry": geometry,
        "ties": judge.ties,
        "top": judge.top,
        "own_group_ignored": task.groups is not None,
        "leave_one_out": task.is_one_set,
    }
    found = averaged(per_query, task.scored, classes, counts=counts, settings=settings, bootstrap=bootstrap, seed=seed)
    return RetrievalResult(**vars(found))
