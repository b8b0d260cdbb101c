"""Embeddings of many items, ready to be searched."""

from pathlib import Path
from typing import Any

from tuplet.errors import DataError, IndexFormatError, install
from tuplet.index.base import Hits, Index, Item
from tuplet.index.collect import Added, add
from tuplet.index.flat import FlatIndex
from tuplet.index.writing import CONFIG, FORMAT, REMEDY
from tuplet.models import Embedder
from tuplet.storage import read_json, settle

__all__ = ["Added", "FlatIndex", "Hits", "Index", "Item", "add", "create", "open"]

BACKENDS = ("flat", "lance", "postgres")


def open(folder: Path | str, *, trust: bool = False) -> Index:  # noqa: A001  # `index.open` reads like `gzip.open`
    """Open an index.

    Args:
        folder: Folder of an index, or a run, whose own gallery is opened.
        trust: Import the class that the model names, if its encoder is of the kind `callable`.

    Raises:
        IndexFormatError: If there is no index, or it is damaged, of an unknown format, or made by another model.
        CheckpointError: If the model that belongs to the index cannot be read.
        MissingExtraError: If what the index is kept in is not installed.
    """
    places = (Path(folder), Path(folder) / "gallery")
    for place in places:
        settle(place)
    home = next((place for place in places if (place / CONFIG).is_file()), None)
    if home is None:
        raise IndexFormatError(
            f"There is no index in {folder}: neither {CONFIG} nor gallery/{CONFIG} exists.",
            hint="Name a run that has ended (`tuplet runs` shows them), or make an index: tuplet index build",
            reference="no-index",
        )
    content = read_json(home / CONFIG, version=FORMAT, oldest=1, error=IndexFormatError, remedy=REMEDY, seal=True)
    backend = content.get("backend")
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise IndexFormatError(
            f"{home / CONFIG} names the backend {backend!r}; this version of tuplet knows {', '.join(BACKENDS)}.",
            hint=f"Update tuplet ({install()}), or: {REMEDY}",
            reference="unknown-backend",
        )
    return _backend(backend)(home, trust=trust)


def create(folder: Path | str, embedder: Embedder, *, backend: str = "flat", **options: Any) -> Index:
    """An index without items, with a copy of the model; `add` brings them in.

    Args:
        folder: Where to.
        embedder: Makes the embeddings of items and of queries.
        backend: `flat`, `lance` or `postgres`.
        **options: Of `postgres`: `database`, and `table`.

    Raises:
        DataError: If the backend is unknown, or its options are.
        IndexFormatError: If the folder holds other files or cannot be written.
        MissingExtraError: If what the index is kept in is not installed.
    """
    if backend not in BACKENDS:
        raise DataError(
            f"No index is kept in {backend!r}.",
            hint=f"Choose one of {', '.join(BACKENDS)}.",
            reference="unknown-backend",
        )
    return _backend(backend).create(folder, embedder, **options)


def _backend(name: str) -> Any:
    """The class of a back end; those that need an extra are imported when they are asked for."""
    if name == "lance":
        from tuplet.index.lance import LanceIndex

        return LanceIndex
    if name == "postgres":
        from tuplet.index.postgres import PostgresIndex

        return PostgresIndex
    return FlatIndex
