"""What every index can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.models import Embedder

FORMAT = 1
CONFIG = "index.json"
REMEDY = "A run makes its index again: tuplet train --resume RUN"


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest items of each query, nearest first; equal scores by lower position.

    Attributes:
        positions: Rows of the index; -1 where a query has fewer neighbours than asked for.
        scores: In the unit of the index's geometry: similarities are best when large, distances when small.
        ids: The items at `positions`, fewer where a query has fewer neighbours.
        queries: Names of the queries.
    """

    positions: Int64[Tensor, "queries top"]
    scores: Float[Tensor, "queries top"]
    ids: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One dict per hit, for tables and JSON lines: query, rank (from 1), id, score."""
        return [
            {"query": query, "rank": rank, "id": name, "score": score}
            for query, names, scores in zip(self.queries, self.ids, self.scores.tolist(), strict=True)
            for rank, (name, score) in enumerate(zip(names, scores, strict=False), start=1)
        ]


@runtime_checkable
class Index(Protocol):
    """Items that are found by their embeddings."""

    @property
    def items(self) -> Sequence[Mapping[str, Any]]:
        """What is known of each item: `id`, and where it is known `label` and `group`."""

    @property
    def embedder(self) -> Embedder:
        """The model that made the embeddings, and makes those of queries."""

    def __len__(self) -> int: ...

    def search(
        self, vectors: Float[Tensor, "queries dim"], top: int = 10, *, names: Sequence[str] | None = None
    ) -> Hits:
        """The `top` nearest items of each query; `names` are those of the queries, by default their positions."""
