"""Embeddings of many items, ready to be searched."""

from pathlib import Path

from tuplet.errors import IndexFormatError
from tuplet.index.base import CONFIG, FORMAT, REMEDY, Hits, Index
from tuplet.index.flat import FlatIndex
from tuplet.storage import read_json, settle

__all__ = ["FlatIndex", "Hits", "Index", "open"]

_BACKENDS = {"flat": FlatIndex}


def open(folder: Path | str) -> Index:  # noqa: A001  # `index.open` reads like `gzip.open`
    """Open an index.

    Args:
        folder: Folder of an index, or a run, whose own gallery is opened.

    Raises:
        IndexFormatError: If there is no index, or it is damaged, of an unknown format, or made by another model.
        CheckpointError: If the model that belongs to the index cannot be read.
    """
    places = (Path(folder), Path(folder) / "gallery")
    for place in places:
        settle(place)
    home = next((place for place in places if (place / CONFIG).is_file()), None)
    if home is None:
        raise IndexFormatError(
            f"There is no index in {folder}: neither {CONFIG} nor gallery/{CONFIG} exists.",
            hint="Name a run that has ended; `tuplet runs` shows them.",
            reference="no-index",
        )
    backend = read_json(home / CONFIG, version=FORMAT, error=IndexFormatError, remedy=REMEDY).get("backend")
    if not isinstance(backend, str) or backend not in _BACKENDS:
        raise IndexFormatError(
            f"{home / CONFIG} names the backend {backend!r}; this version of tuplet knows {', '.join(_BACKENDS)}.",
            hint=f"Update tuplet (pip install --upgrade tuplet), or: {REMEDY}",
            reference="unknown-backend",
        )
    return _BACKENDS[backend](home)
