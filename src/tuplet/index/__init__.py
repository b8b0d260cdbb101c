"""Embeddings of many items, ready to be searched."""

from tuplet.index.base import Hits, Index, open  # noqa: A004  # `index.open` reads like `gzip.open`
from tuplet.index.flat import FlatIndex

__all__ = ["FlatIndex", "Hits", "Index", "open"]
