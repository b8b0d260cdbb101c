"""What every index can do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import DataError, IndexFormatError, ShapeError
from tuplet.models import Embedder
from tuplet.types import GeometryName

FORMAT = 2
CONFIG = "index.json"
REMEDY = "A run makes its gallery again: tuplet train --resume RUN; an index: tuplet index build"
ColumnKind = Literal["text", "number"]
Facts = Mapping[str, Any]
"""What is known of an item: `id`, and anything else that is JSON. Texts and numbers can be filtered by."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest items of each query, nearest first; equal scores by lower position.

    Attributes:
        positions: Numbers of the items, rising in the order in which they were added (of `flat` their rows, from 0);
            -1 where a query has fewer neighbours than asked for.
        scores: In the unit of the index's geometry: similarities are best when large, distances when small.
        ids: The items at `positions`, fewer where a query has fewer neighbours.
        queries: Names of the queries.
        facts: What is known of the items at `positions`.
    """

    positions: Int64[Tensor, "queries top"]
    scores: Float[Tensor, "queries top"]
    ids: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]
    facts: tuple[tuple[Facts, ...], ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dict per hit, for tables and JSON lines: query, rank (from 1), id, score."""
        return [
            {"query": query, "rank": rank, "id": name, "score": score}
            for query, names, scores in zip(self.queries, self.ids, self.scores.tolist(), strict=True)
            for rank, (name, score) in enumerate(zip(names, scores, strict=False), start=1)
        ]


@runtime_checkable
class Index(Protocol):
    """Items that are found by their embeddings, whatever they are kept in."""

    folder: Path
    geometry: GeometryName
    dim: int

    @property
    def backend(self) -> str:
        """What the items are kept in: `flat`, `lance` or `postgres`."""

    @property
    def model_hash(self) -> str:
        """Content hash of the model that made the embeddings."""

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """What items can be filtered by."""

    @property
    def items(self) -> Iterable[Facts]:
        """What is known of each item that was not removed, in the order in which they were added."""

    @property
    def embedder(self) -> Embedder:
        """The model that made the embeddings, and makes those of queries."""

    @property
    def recall(self) -> Mapping[str, Any]:
        """How near the answers are to those of exact search: `measured`, `asked` if it was, and the settings."""

    def __len__(self) -> int: ...

    def search(
        self,
        vectors: Float[Tensor, "queries dim"],
        top: int = 10,
        *,
        names: Sequence[str] | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> Hits:
        """The `top` nearest items of each query.

        Args:
            vectors: Embeddings of the queries, by this index's embedder.
            top: Hits per query, at least 1; at most the size of the index is returned.
            names: Names of the queries; by default their positions.
            where: Which items are looked at, such as `brand = 'x' AND price < 5`; see `tuplet.index.where`.
            exact: Compare with every item, also where the index would look at some.

        Raises:
            ShapeError: If the vectors are of another length than those of the index, or `names` of another number.
            DataError: If `where` cannot be read or names a column that the index does not have.
        """

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """The content of each of some items that the index holds, in hexadecimal digits, by `id`."""

    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """An embedding for each of some contents that an item of the index has."""

    def insert(
        self, facts: Sequence[Facts], contents: Sequence[str], vectors: Float[Tensor, "items dim"], *, keep: bool = True
    ) -> int:
        """Add items; all of them are there, on the disk, when it returns, or none if it fails.

        Args:
            facts: What is known of each item; their `id` are different.
            contents: Hash of the content of each, in hexadecimal digits.
            vectors: Their embeddings.
            keep: An item whose `id` is there already is kept as it is; otherwise it is replaced.

        Returns:
            How many were added or replaced.

        Raises:
            DataError: If a fact does not fit its column.
            IndexFormatError: If the index cannot be written.
        """

    def remove(self, ids: Collection[str]) -> int:
        """Remove items by `id`, at once and for good; how many there were."""

    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:
        """Find the settings that reach a share of the `top` exact neighbours; what `recall` returns from now on."""

    def check(self) -> list[str]:
        """Read everything and compare it with its checksums; what is wrong, one sentence each."""

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """Embeddings of some items, drawn at random, to measure recall with."""


def require_queries(vectors: Tensor, dim: int, names: Sequence[str] | None) -> None:
    """Refuse queries of another length than the vectors of an index, or a wrong number of names."""
    if vectors.ndim != 2 or vectors.shape[1] != dim or (names is not None and len(names) != len(vectors)):
        raise ShapeError(
            f"The index holds vectors of length {dim}; the queries have shape {tuple(vectors.shape)}"
            + (f" and {len(names)} names." if names is not None else "."),
            hint="Embed queries with the embedder of the index: index.embedder.embed(items).",
            reference="query-shape",
        )


def require_finite(facts: Sequence[Facts], vectors: Tensor) -> None:
    """Refuse embeddings with NaN or infinity, by the name of their item."""
    broken = (~vectors.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise DataError(
            f"The embedding of {facts[broken[0]]['id']!r} holds NaN or infinity.",
            hint="Look at this item; if it is sound, the model has diverged.",
            reference="non-finite-embeddings",
        )


def merged_columns(known: Mapping[str, ColumnKind], facts: Iterable[Facts]) -> dict[str, ColumnKind]:
    """The columns of an index after items were added.

    Raises:
        DataError: If a column of numbers is given a text, or the reverse.
    """
    columns = dict(known)
    for fact in facts:
        for name, value in fact.items():
            kind = _kind(value)
            if kind is None:
                continue
            if columns.setdefault(name, kind) != kind:
                raise DataError(
                    f"{name} of {fact['id']!r} is {value!r}; in this index the column {name} holds "
                    + ("numbers." if columns[name] == "number" else "text."),
                    hint="Write it as the others are, or give the column another name.",
                    reference="column-kind",
                )
    return columns


def _kind(value: Any) -> ColumnKind | None:
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else None


def hits_of(
    found: Sequence[Sequence[tuple[int, float, Facts]]], top: int, queries: int, names: Sequence[str] | None
) -> Hits:
    """Hits from the number, score and facts of what each query found."""
    width = min(top, max((len(row) for row in found), default=0))
    positions = torch.full((queries, width), -1, dtype=torch.int64)
    scores = torch.full((queries, width), torch.nan, dtype=torch.float64)
    for at, row in enumerate(found):
        for rank, (position, score, _) in enumerate(row[:width]):
            positions[at, rank], scores[at, rank] = position, score
    facts = tuple(tuple(fact for _, _, fact in row[:width]) for row in found)
    ids = tuple(tuple(str(fact["id"]) for fact in row) for row in facts)
    return Hits(positions, scores, ids, tuple(names or map(str, range(queries))), facts)


def damaged(path: Path | str, what: str) -> IndexFormatError:
    """What to raise of a file that is not what was written."""
    return IndexFormatError(f"{path} is damaged: {what}.", hint=REMEDY, reference="damaged-file")
