"""Exact search over one memory-mapped array."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tuplet.models import Embedder


class FlatIndex:
    """Embeddings in one `.npy`, searched exactly."""

    @classmethod
    def build(
        cls,
        folder: Path | str,
        embedder: Embedder,
        items: Any,
        *,
        facts: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        batch_size: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> "FlatIndex":
        """Embed `items` (Manifest, Dataset, paths, rows, texts) and write the index. `model`: relative path of a saved embedder."""
        raise NotImplementedError

    @classmethod
    def write(
        cls,
        folder: Path | str,
        embedder: Embedder,
        embeddings: Float[Tensor, "n dim"],
        facts: Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
    ) -> "FlatIndex":
        """Write an index of embeddings that are there already; `facts[i]["id"]` names item i."""
        raise NotImplementedError
