"""What every index can do."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import DataError, ShapeError
from tuplet.index.writing import CONFIG, FORMAT, MODEL, model_folder, read_config, replace_config, require_model
from tuplet.models import Embedder
from tuplet.storage import write_json
from tuplet.types import GeometryName

ColumnKind = Literal["text", "number"]
UPGRADE = "upgrade"
"""Folder in that of an index, while it gets a new model."""
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


@dataclass(frozen=True, eq=False)
class Item:
    """An item of an index.

    Attributes:
        position: Its number, as in `Hits`.
        facts: What is known of it.
        vector: Its embedding.
    """

    position: int
    facts: Facts
    vector: NDArray[np.float32]


class Index(ABC):
    """Items that are found by their embeddings, whatever they are kept in.

    Args:
        folder: Where `create` put the index.
        trust: Import the class that the model names, if its encoder is of the kind `callable`.

    Attributes:
        backend: What the items are kept in: `flat`, `lance` or `postgres`.
        geometry: How embeddings are compared.
        dim: Length of an embedding.
        model_hash: Content hash of the model that made the embeddings.

    Raises:
        IndexFormatError: If the index cannot be read, is damaged, of an unknown format, or made by another model.
        CheckpointError: If the model that belongs to the index cannot be read.
        MissingExtraError: If what the items are kept in is not installed.
    """

    backend: ClassVar[str]
    _FIELDS: ClassVar[Mapping[str, type]]
    """What the description of an index of this kind says beside what that of every index does."""

    def __init__(self, folder: Path | str, *, trust: bool = False) -> None:
        self.folder = Path(folder)
        self._trust = trust
        self._take(self._read())
        require_model(self._model, self.model_hash)

    def _read(self) -> dict[str, Any]:
        return read_config(self.folder, self._FIELDS)

    def _take(self, content: dict[str, Any]) -> None:
        """Be what a description says."""
        self._config = content
        self.geometry: GeometryName = content["geometry"]
        self.dim: int = content["dim"]
        self.model_hash: str = content["model_hash"]
        self._model = model_folder(self.folder, content["model"])

    def _refresh(self) -> None:
        """Another process may have written."""
        content = self._read()
        if content != self._config:
            self._take(content)

    def _change(self, **changed: Any) -> None:
        """What the description says counts from here on."""
        replace_config(self.folder, {**self._config, **changed})
        self._refresh()

    @classmethod
    def _describe(cls, folder: Path, embedder: Embedder, *, model: str | None = None, **fields: Any) -> None:
        """Write the description of a new index, and a copy of the model unless that lies elsewhere."""
        if model is None:
            embedder.save(folder / MODEL)
        content = {
            "backend": cls.backend,
            "model": model or MODEL,
            "model_hash": embedder.content_hash(),
            "geometry": embedder.geometry,
            "dim": embedder.dim,
            **fields,
        }
        write_json(folder / CONFIG, content, version=FORMAT, seal=True)

    @cached_property
    def embedder(self) -> Embedder:
        """The model that made the embeddings, and makes those of queries."""
        return Embedder.load(self._model, trust=self._trust)

    @cached_property
    def query_embedder(self) -> Embedder:
        """The model that makes embeddings of queries: while an index is upgraded, the new one with a map."""
        from tuplet.index.upgrade import mapped_embedder

        return mapped_embedder(self, trust=self._trust) or self.embedder

    def beside(self, embedder: Embedder) -> dict[str, Any]:  # noqa: ARG002  of those who need it
        """Options of `create` for an index of the same items by another model."""
        return {}

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, ColumnKind]:
        """What items can be filtered by."""

    @property
    @abstractmethod
    def items(self) -> Iterable[Facts]:
        """What is known of each item that was not removed, in the order in which they were added."""

    @property
    @abstractmethod
    def recall(self) -> Mapping[str, Any]:
        """How near the answers are to those of exact search: `measured`, `asked` if it was, and the settings."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
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

    @abstractmethod
    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """The content of each of some items that the index holds, in hexadecimal digits, by `id`."""

    @abstractmethod
    def fetch(self, ids: Collection[str]) -> dict[str, Item]:
        """The items of some names, by `id`; names that the index does not hold are left out."""

    @abstractmethod
    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """An embedding for each of some contents that an item of the index has."""

    @abstractmethod
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

    @abstractmethod
    def remove(self, ids: Collection[str]) -> int:
        """Remove items by `id`, at once and for good; how many there were."""

    def settle(self) -> None:  # noqa: B027  stores that need nothing do nothing
        """Make searches as fast as before much was added, where a store needs that; `add` calls it at its end."""

    @abstractmethod
    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:
        """Find the settings that reach a share of the `top` exact neighbours; what `recall` returns from now on."""

    @abstractmethod
    def check(self) -> list[str]:
        """Read everything and compare it with its checksums; what is wrong, one sentence each."""

    @abstractmethod
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
