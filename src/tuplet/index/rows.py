"""What the stores that keep items as rows have in common: checksums of rows, and recall beside exact search."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.engine.topk import nearness, pair_scores
from tuplet.index.base import Facts, Hits, Index, Item, hits_of, require_queries
from tuplet.index.writing import damaged
from tuplet.types import GeometryName

INDEXED_FROM = 10_000
"""Items from which on a store looks at some of them; fewer are all compared."""
_SPARE = 8
"""Candidates beyond those asked for: stores round scores, which are computed anew here."""
Row = dict[str, Any]
"""An item in a store: `number` (from 0, rising), `id`, `content`, `facts` (as JSON), `checksum` and `vector`."""


class RowIndex(Index):
    """An index in a store that searches by itself, all of its items or those that a structure of its own leads to.

    From 10,000 items on, `tune` makes that structure; a search then looks at as many items as it found to reach the
    recall that was asked for, 0.95 unless said otherwise. Scores are computed anew from the embeddings that the store
    found. Each item has a checksum, compared when the item is found, and by `check` for all.
    """

    _EFFORT: ClassVar[str]
    """What says how many items a search looks at: the name of the setting among those of `recall`."""
    _PROBLEMS: ClassVar[tuple[type[Exception], ...]] = ()
    """What the store raises where it cannot be read."""

    @property
    @abstractmethod
    def _place(self) -> str:
        """What is named where an item is not what was written."""

    @abstractmethod
    def _rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """All items by their numbers, with some of their columns."""

    @abstractmethod
    def _nearest(
        self, queries: NDArray[np.float32], count: int, condition: Any, effort: int | None
    ) -> Iterable[Sequence[Row]]:
        """What the store finds nearest to each query among what a condition leaves; with no effort among all."""

    @abstractmethod
    def _condition(self, where: str | None) -> Any:
        """A filter in the language of the store."""

    @abstractmethod
    def _tuning(self) -> AbstractContextManager[None]:
        """While the structure is made and its settings are found."""

    @abstractmethod
    def _structured(self) -> tuple[Sequence[int], dict[str, Any]]:
        """Make the structure; efforts to try, rising, and what else `recall` says. No efforts if it cannot be made."""

    @abstractmethod
    def _reached(self, recall: dict[str, Any]) -> None:
        """Note what `recall` returns from now on, and search that way."""

    @abstractmethod
    def _named(self, ids: Sequence[str]) -> Iterable[Row]:
        """The items of some names, with all columns."""

    def fetch(self, ids: Collection[str]) -> dict[str, Item]:
        """See `Index`."""
        rows = [self._sound(row) for row in self._named(list(ids))]
        return {row["id"]: Item(row["number"], json.loads(row["facts"]), row["vector"]) for row in rows}

    def _sound(self, row: Row) -> Row:
        if not _is_sound(row):
            raise damaged(self._place, f"the item {row['id']!r} is not what was written")
        return row

    @property
    def items(self) -> Iterator[Facts]:
        """See `Index`."""
        return (json.loads(row["facts"]) for row in self._rows(["number", "facts"]))

    def search(
        self,
        vectors: Float[Tensor, "queries dim"],
        top: int = 10,
        *,
        names: Sequence[str] | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> Hits:
        """See `Index`."""
        require_queries(vectors, self.dim, names)
        effort = None if exact else self.recall.get(self._EFFORT)
        return self._search(vectors, top, effort=effort, names=names, where=where)

    def _search(
        self,
        vectors: Tensor,
        top: int,
        *,
        effort: int | None,
        names: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Hits:
        queries, condition = vectors.detach().float().cpu(), self._condition(where)
        nearest = self._nearest(queries.numpy(), top + _SPARE, condition, effort)
        found = [
            _ranked(query, [self._sound(row) for row in rows], self.geometry, top)
            for query, rows in zip(queries, nearest, strict=True)
        ]
        return hits_of(found, top, len(vectors), names)

    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:
        """See `Index`."""
        with self._tuning():
            reached: dict[str, Any] = {"asked": recall, "measured": 1.0, "exact": True}
            efforts, facts = self._structured() if len(self) >= INDEXED_FROM else ((), {})
            if efforts:
                compare = _beside_exact(self, top=top, queries=queries, seed=seed)
                effort, found = _least_effort(efforts, recall, lambda one: compare(partial(self._search, effort=one)))
                reached = {"asked": recall, **found, self._EFFORT: effort, **facts, "exact": False}
            self._reached(reached)
        return self.recall

    def check(self) -> list[str]:
        """See `Index`."""
        wrong, seen = [], set()
        try:
            for row in self._rows(["number", "id", "content", "facts", "checksum", "vector"]):
                if row["id"] in seen:
                    wrong.append(f"{self._place}: {row['id']!r} appears in it twice.")
                seen.add(row["id"])
                if not _is_sound(row):
                    wrong.append(f"{self._place}: the item {row['id']!r} is not what was written.")
        except self._PROBLEMS as problem:
            wrong.append(f"{self._place} cannot be read: {str(problem).partition(chr(10))[0]}.")
        return wrong


def rows_of(facts: Sequence[Facts], contents: Sequence[str], vectors: NDArray[np.float32]) -> list[Row]:
    """Items as rows, but for their numbers."""
    texts = [json.dumps(dict(fact), ensure_ascii=False) for fact in facts]
    rows = [
        {"id": str(fact["id"]), "content": content, "facts": text, "vector": vector}
        for fact, content, text, vector in zip(facts, contents, texts, vectors, strict=True)
    ]
    return [{**row, "checksum": _sum_of(row)} for row in rows]


def _sum_of(row: Row) -> str:
    """Checksum of an item, 64 bits in hexadecimal digits."""
    digest = hashlib.sha256(f"{row['id']}\n{row['content']}\n{row['facts']}\n".encode())
    digest.update(np.ascontiguousarray(row["vector"], dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def _is_sound(row: Row) -> bool:
    return bool(row["checksum"] == _sum_of(row))


def _ranked(query: Tensor, found: Sequence[Row], geometry: GeometryName, top: int) -> list[tuple[int, float, Facts]]:
    """The best of some candidates by their exact scores, equal ones by lower number."""
    if not found:
        return []
    rows = torch.from_numpy(np.stack([row["vector"] for row in found])).double()
    scores = pair_scores(query[None].expand(len(rows), -1).double(), rows, geometry)
    keys = nearness(scores, geometry).tolist()
    order = sorted(range(len(found)), key=lambda at: (-keys[at], found[at]["number"]))[:top]
    return [(found[at]["number"], float(scores[at]), json.loads(found[at]["facts"])) for at in order]


def measured_recall(index: Index, *, top: int, queries: int, seed: int) -> dict[str, Any]:
    """Share of the exact neighbours of some items that a search finds, the items themselves left out.

    Args:
        index: Whose items.
        top: Neighbours that count.
        queries: How many items, drawn at random.
        seed: Decides which.

    Returns:
        `measured`, the mean over queries, `low`, the lower end of its 95 % interval (by the spread over queries), and
        `queries`, `top` and `items`.
    """
    return _beside_exact(index, top=top, queries=queries, seed=seed)(index.search)


def _beside_exact(
    index: Index, *, top: int, queries: int, seed: int
) -> Callable[[Callable[[Tensor, int], Hits]], dict[str, Any]]:
    """Measures the recall of any search; the exact one, which takes longest, is done once."""
    asked = index.sample(queries, seed)
    exact = _numbers(index.search(asked, top + 1, exact=True))

    def measured(search: Callable[[Tensor, int], Hits]) -> dict[str, Any]:
        found = _numbers(search(asked, top + 1))
        shares = torch.tensor(
            [len(set(one[1:]) & set(other)) / max(1, len(one) - 1) for one, other in zip(exact, found, strict=True)],
            dtype=torch.float64,
        )
        mean = float(shares.mean()) if len(shares) else 1.0
        error = 1.96 * float(shares.std()) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
        low = max(0.0, mean - error)
        return {"measured": mean, "low": low, "queries": len(asked), "top": top, "items": len(index)}

    return measured


def _least_effort(
    efforts: Sequence[int], recall: float, measure: Callable[[int], Mapping[str, Any]]
) -> tuple[int, dict[str, Any]]:
    """The first of rising efforts that reaches a recall; the last one if none does."""
    low, high, best = 0, len(efforts) - 1, dict(measure(efforts[-1]))
    while low < high:
        middle = (low + high) // 2
        reached = dict(measure(efforts[middle]))
        if reached["measured"] >= recall:
            high, best = middle, reached
        else:
            low = middle + 1
    return efforts[high], best


def _numbers(hits: Hits) -> list[list[int]]:
    return [[at for at in row if at >= 0] for row in hits.positions.tolist()]
