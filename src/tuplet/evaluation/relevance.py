"""Which gallery rows are relevant to which query, and which are left out of its ranking."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Int, Int64, Integer
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.engine.topk import SEARCH_TILE, Rows, among
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation.inputs import (
    UNKNOWN,
    Arrays,
    Groups,
    as_tensor,
    class_labels,
    common_codes,
    embedding_rows,
    gallery_rows,
    group_codes,
)
from tuplet.evaluation.ranking import Neighbours, Ranker, Ranking
from tuplet.rule import Rule, RuleRelation
from tuplet.types import GeometryName

Junk = Literal["group", "class_and_group"]
Qrels = Mapping[int, Collection[int]] | Int[Tensor, "pairs columns"] | Arrays
"""Relevant gallery rows of each query: `{query: [rows]}` or `{query: {row: grade}}`, or rows (query, gallery row) or
(query, gallery row, grade); a grade of 0 or less is not relevant."""


@runtime_checkable
class Relevance(Protocol):
    """What is relevant to a query."""

    def tally(self) -> Int64[Tensor, " queries"]:
        """Relevant rows of each query, the query itself among them."""

    def hits(self, queries: Int64[Tensor, " some"], positions: Int64[Tensor, "some ranks"]) -> Bool[Tensor, "_ _"]:
        """Whether each gallery row is relevant to the query of its line."""

    def own(self, hidden: tuple[Tensor, Tensor] | None, *, is_one_set: bool) -> Int64[Tensor, " queries"]:
        """Relevant rows that are left out of each query's ranking."""

    def to(self, device: torch.device) -> "Relevance":
        """The same where `hits` is asked for."""


@dataclass(frozen=True, eq=False)
class SameClass:
    """Rows of the query's class."""

    labels: Int64[Tensor, " queries"]
    gallery_labels: Int64[Tensor, " gallery"]

    def tally(self) -> Int64[Tensor, " queries"]:
        """See `Relevance`."""
        return tally(self.labels, self.gallery_labels).where(self.labels != UNKNOWN, 0)

    def hits(self, queries: Int64[Tensor, " some"], positions: Int64[Tensor, "some ranks"]) -> Bool[Tensor, "_ _"]:
        """See `Relevance`."""
        return self.gallery_labels[positions] == self.labels[queries][:, None]

    def own(self, hidden: tuple[Tensor, Tensor] | None, *, is_one_set: bool) -> Int64[Tensor, " queries"]:
        """See `Relevance`."""
        if hidden is None:
            return torch.full_like(self.labels, int(is_one_set))
        codes = torch.unique(torch.cat([self.labels, self.gallery_labels]), return_inverse=True)[1]
        both = paired_codes(codes, torch.cat(hidden))  # class and group as one number
        return tally(both[: len(self.labels)], both[len(self.labels) :])

    def to(self, device: torch.device) -> "SameClass":
        """See `Relevance`."""
        return SameClass(self.labels.to(device), self.gallery_labels.to(device))


@dataclass(frozen=True, eq=False)
class GivenRelevance:
    """Rows that qrels name for each query."""

    queries: int
    gallery: int
    codes: Int64[Tensor, " pairs"]
    """query * gallery + row, sorted, each once."""

    def tally(self) -> Int64[Tensor, " queries"]:
        """See `Relevance`."""
        return (self.codes // self.gallery).bincount(minlength=self.queries)

    def hits(self, queries: Int64[Tensor, " some"], positions: Int64[Tensor, "some ranks"]) -> Bool[Tensor, "_ _"]:
        """See `Relevance`."""
        wanted = queries[:, None] * self.gallery + positions
        at = torch.searchsorted(self.codes, wanted).clamp_max(len(self.codes) - 1)
        return self.codes[at] == wanted

    def own(self, hidden: tuple[Tensor, Tensor] | None, *, is_one_set: bool) -> Int64[Tensor, " queries"]:
        """See `Relevance`."""
        query, row = self.codes // self.gallery, self.codes % self.gallery
        left_out = hidden[0][query] == hidden[1][row] if hidden is not None else (query == row) & is_one_set
        return query[left_out].bincount(minlength=self.queries)

    def to(self, device: torch.device) -> "GivenRelevance":
        """See `Relevance`."""
        return replace(self, codes=self.codes.to(device))


@dataclass(frozen=True, eq=False)
class ByRule:
    """Rows of which a rule says yes; those of which it says nothing are left out of the ranking.

    The answers of a tile are computed with it, so that no matrix of them is kept.
    """

    said: RuleRelation
    tile_size: int

    @staticmethod
    def of(rule: Rule, queries: int, gallery: int, device: torch.device, *, is_one_set: bool) -> "ByRule":
        """What a rule says of so many queries and gallery rows; in one set a query does not meet itself."""
        first, everyone = (0 if is_one_set else None), _unchanged
        said = RuleRelation(rule, queries, gallery, gallery, first=first, begin=0, gathered=everyone, device=device)
        return ByRule(said, SEARCH_TILE)

    @cached_property
    def counts(self) -> tuple[Int64[Tensor, " queries"], Int64[Tensor, " queries"]]:
        """How many rows are relevant to each query, and how many are ranked for it."""
        everyone = torch.arange(self.said.anchors, device=self.said.live.device)
        relevant, ranked = torch.zeros_like(everyone), torch.zeros_like(everyone)
        for rows, _, positive, negative in self._tiles(everyone):
            relevant[rows] += positive.sum(1)
            ranked[rows] += positive.sum(1) + negative.sum(1)
        return relevant.cpu(), ranked.cpu()

    def tally(self) -> Int64[Tensor, " queries"]:
        """See `Relevance`."""
        return self.counts[0]

    def hits(self, queries: Int64[Tensor, " some"], positions: Int64[Tensor, "some ranks"]) -> Bool[Tensor, "_ _"]:
        """See `Relevance`."""
        found = torch.zeros_like(positions, dtype=torch.bool)
        for rows, cols, positive, _ in self._tiles(queries):
            inside = (positions[rows] >= cols.start) & (positions[rows] < cols.stop)
            at = (positions[rows] - cols.start).clamp(0, positive.shape[1] - 1)
            found[rows] |= inside & positive.gather(1, at)
        return found

    def own(self, hidden: tuple[Tensor, Tensor] | None, *, is_one_set: bool) -> Int64[Tensor, " queries"]:
        """Nothing: a rule counts only what is ranked."""
        del hidden, is_one_set
        return torch.zeros_like(self.counts[0])

    def to(self, device: torch.device) -> "ByRule":
        """It is there already."""
        del device
        return self

    def hides(self, rows: Int64[Tensor, " some"], cols: slice) -> Bool[Tensor, "some cols"]:
        """What is not ranked."""
        positive, negative = self.said.masks(rows, cols)
        return ~(positive | negative)

    def _tiles(self, queries: Int64[Tensor, " some"]) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Answers about some queries, tile by tile."""
        for cols in spans(self.said.references, self.tile_size // max(1, min(len(queries), 256))):
            for rows in spans(len(queries), self.tile_size // (cols.stop - cols.start)):
                yield rows, cols, *self.said.masks(queries[rows], cols)


def _unchanged(values: Tensor) -> Tensor:
    """Of one process."""
    return values


@dataclass(frozen=True, eq=False)
class Search:
    """Queries, the gallery that is ranked for them, and what is relevant.

    Attributes:
        embeddings: Of the queries.
        gallery: Rows that are ranked; the queries themselves if they are one set.
        relevance: What is relevant.
        classes: What is resampled together: the class of each query, or the query itself.
        hidden: Codes of queries and gallery; a query does not see rows of its own code.
        is_one_set: Whether a query is a row of the gallery, and does not see itself.
    """

    embeddings: Tensor
    gallery: Rows
    relevance: Relevance
    classes: Int64[Tensor, " queries"]
    hidden: tuple[Int64[Tensor, " queries"], Int64[Tensor, " gallery"]] | None
    is_one_set: bool

    @cached_property
    def relevant(self) -> Int64[Tensor, " queries"]:
        """How many gallery rows are relevant to each query, without those left out."""
        return self.relevance.tally() - self.relevance.own(self.hidden, is_one_set=self.is_one_set)

    @cached_property
    def available(self) -> Int64[Tensor, " queries"]:
        """How many gallery rows each query can have, without those left out."""
        if isinstance(self.relevance, ByRule):
            return self.relevance.counts[1]
        everything = torch.full((len(self.embeddings),), len(self.gallery))
        return everything - (int(self.is_one_set) if self.hidden is None else tally(*self.hidden))

    @cached_property
    def scored(self) -> Int64[Tensor, " scored"]:
        """Queries with something to find."""
        return (self.relevant > 0).nonzero()[:, 0]

    def rank(
        self,
        depth: Int64[Tensor, " scored"],
        geometry: GeometryName,
        tile_size: int,
        known: Neighbours | None = None,
    ) -> Iterator[Ranking]:
        """Rankings of the scored queries, in blocks; see `Ranker.to_depth`."""
        device = self.embeddings.device
        own = self.scored.to(device)
        hidden = (self.hidden[0][self.scored].to(device), self.hidden[1].to(device)) if self.hidden else None
        exclude = own if self.is_one_set else None
        hides = among(self.relevance.hides, own) if isinstance(self.relevance, ByRule) else None
        ranker = Ranker(self.embeddings[own], self.gallery, geometry, exclude, hidden, tile_size, hides)
        return ranker.to_depth(depth, known)


def search_of(
    embeddings: Tensor | Arrays,
    labels: Integer[Tensor, " queries"] | Arrays | None,
    gallery: Rows | Arrays | None,
    gallery_labels: Integer[Tensor, " gallery"] | Arrays | None,
    groups: Groups | None,
    gallery_groups: Groups | None,
    junk: Junk,
    qrels: Qrels | None,
    relation: Rule | None = None,
) -> Search:
    """Check and convert what `retrieval` was given."""
    asked = embedding_rows(embeddings)
    answers = asked if gallery is None else gallery_rows(gallery)
    _check(gallery is None, labels, gallery_labels, groups, gallery_groups, junk, qrels, relation)
    mine = None if labels is None else class_labels(labels, len(asked))
    theirs = mine
    if gallery is not None and gallery_labels is not None:
        theirs = class_labels(gallery_labels, len(answers), "gallery_labels")
    own = group_codes(groups, len(asked), "groups")
    other = own if gallery is None else group_codes(gallery_groups, len(answers), "gallery_groups")
    hidden = None if own is None or other is None else common_codes(own, other)
    if hidden is not None and junk == "class_and_group":
        assert mine is not None and theirs is not None  # noqa: S101, PT018  `_check` asks for both
        codes = paired_codes(torch.unique(torch.cat([mine, theirs]), return_inverse=True)[1], torch.cat(hidden))
        codes = torch.unique(codes, return_inverse=True)[1]
        hidden = codes[: len(mine)], codes[len(mine) :]
    if relation is not None:
        size, device = (len(asked), len(answers)), asked.device
        relevance: Relevance = ByRule.of(relation, *size, device, is_one_set=gallery is None)
        classes = torch.arange(len(asked)) if mine is None else mine
    elif qrels is not None:
        relevance = GivenRelevance(len(asked), len(answers), _qrels_codes(qrels, len(asked), len(answers)))
        classes = torch.arange(len(asked)) if mine is None else mine
    else:
        assert mine is not None and theirs is not None  # noqa: S101, PT018  `_check` asks for both
        relevance, classes = SameClass(mine, theirs), mine
    return Search(asked, answers, relevance, classes, hidden, gallery is None)


def tally(wanted: Int64[Tensor, " wanted"], among: Int64[Tensor, " among"]) -> Int64[Tensor, " wanted"]:
    """How often each number is among others."""
    if not len(among):
        return torch.zeros_like(wanted)
    distinct, counts = torch.unique(among, return_counts=True)
    at = torch.searchsorted(distinct, wanted).clamp_max(len(distinct) - 1)
    return counts[at].where(distinct[at] == wanted, 0)


def paired_codes(first: Int64[Tensor, " rows"], second: Int64[Tensor, " rows"]) -> Int64[Tensor, " rows"]:
    """Two numbers below the number of rows as one."""
    return first + len(first) * second


def mismatch(what: str) -> ShapeError:
    """Arguments of `retrieval` that do not fit together."""
    return ShapeError(
        f"Retrieval: {what}.",
        hint="Give gallery, gallery_labels and, with groups, gallery_groups together; top=(1, 5, 10), ties='expected'.",
        reference="retrieval-arguments",
    )


def _check(
    is_one_set: bool,
    labels: object,
    gallery_labels: object,
    groups: object,
    gallery_groups: object,
    junk: Junk,
    qrels: object,
    relation: object,
) -> None:
    if junk not in get_args(Junk):
        raise mismatch(f"junk is {junk!r}; one of {', '.join(get_args(Junk))} is expected")
    if relation is not None:
        if qrels is not None or groups is not None or gallery_groups is not None:
            raise mismatch("a relation came with qrels or groups; say relation.ignoring(same_class(groups)) instead")
        return
    if labels is None and (qrels is None or junk == "class_and_group" or gallery_labels is not None):
        raise mismatch("labels are missing; without them qrels say what is relevant, and junk is 'group'")
    if is_one_set and (gallery_labels is not None or gallery_groups is not None):
        raise mismatch("gallery_labels or gallery_groups came without a gallery")
    if not is_one_set and gallery_labels is None and (qrels is None or junk == "class_and_group"):
        raise mismatch("a gallery came without gallery_labels")
    if not is_one_set and (groups is None) != (gallery_groups is None):
        raise mismatch("only one of groups and gallery_groups was given")
    if groups is None and junk != "group":
        raise mismatch(f"junk is {junk!r}, but no groups are given")


def _qrels_codes(qrels: Qrels, queries: int, gallery: int) -> Int64[Tensor, " pairs"]:
    """Numbers query * gallery + row of each relevant row, sorted, each once."""
    if isinstance(qrels, Mapping):
        rows = [
            (query, row, grade)
            for query, rated in qrels.items()
            for row, grade in (rated.items() if isinstance(rated, Mapping) else ((row, 1) for row in rated))
        ]
        found = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    else:
        found = as_tensor(qrels, "qrels")
    if found.ndim != 2 or found.shape[1] not in (2, 3):
        raise _no_qrels_codes(f"they have shape {tuple(found.shape)}")
    if found.shape[1] == 3:
        found = found[found[:, 2] > 0, :2]
    query, row = found.detach().cpu().long().T
    outside = (query < 0) | (query >= queries) | (row < 0) | (row >= gallery)
    if outside.any():
        at = int(outside.nonzero()[0, 0])
        raise _no_qrels_codes(
            f"{int(outside.sum())} of them name rows that are not there, the first query {int(query[at])} and gallery "
            f"row {int(row[at])}, of {queries} queries and {gallery} gallery rows"
        )
    if not len(query):
        raise _no_qrels_codes("no row is relevant to any query")
    return torch.unique(query * gallery + row)


def _no_qrels_codes(what: str) -> LabelError:
    return LabelError(
        f"qrels cannot be used: {what}.",
        hint="Pass {query: [gallery rows]}, or rows (query, gallery row) or (query, gallery row, grade), from 0.",
        reference="qrels",
    )
