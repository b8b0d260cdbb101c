"""What every index can do, and how one is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.models import Embedder


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest items of each query, nearest first."""

    positions: Int64[Tensor, "queries top"]
    scores: Float[Tensor, "queries top"]
    ids: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One dict per hit: query, rank (from 1), id, score."""
        raise NotImplementedError


class Index(Protocol):
    """Items that can be searched by their embeddings."""

    embedder: Embedder
    items: Sequence[Mapping[str, Any]]

    def __len__(self) -> int: ...

    def search(
        self, vectors: Float[Tensor, "queries dim"], top: int = 10, *, names: Sequence[str] | None = None
    ) -> Hits: ...


def open(folder: Path | str) -> Index:  # noqa: A001  # `index.open` reads like `gzip.open`
    """Open the index in `folder`, or that of a run."""
    raise NotImplementedError
