"""What was typed on the command line, as items that an embedder takes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import read_manifest
from tuplet.errors import DataError
from tuplet.models import Embedder

_TABLES = {".csv", ".tsv", ".npy", ".ts"}


def read_queries(embedder: Embedder, typed: Sequence[str]) -> tuple[Any, list[str]]:
    """Items to embed, and their names.

    Args:
        embedder: Says what an item is.
        typed: Folders and tables stand for all they hold; other words are one item each: the path of an image, or a
            text. `-` stands for the lines of standard input.

    Raises:
        DataError: If there is nothing to embed, or something of another kind.
    """
    kind = embedder.preprocessing.kind
    items: list[Any] = []
    names: list[str] = []
    for word in _lines(typed):
        path = Path(word)
        if path.suffix.lower() in _TABLES or (kind == "image" and path.is_dir()):
            manifest = read_manifest(path, kind=kind)
            items.extend(manifest.items)
            names.extend(manifest.ids)
        elif kind in ("image", "text", "words"):
            items.append(path if kind == "image" else word)
            names.append(word)
        else:
            raise DataError(
                f"{word} is no table; the model embeds items of the kind {kind}.",
                hint="Give it a .csv, .tsv, .npy or .ts file; every row is embedded.",
                reference="query-kind",
            )
    if not items:
        raise DataError("There is nothing to embed.", hint="Name at least one item.", reference="no-query")
    return (np.stack(items) if kind == "vector" else items), names


def _lines(typed: Sequence[str]) -> list[str]:
    return [line for word in typed for line in (sys.stdin.read().splitlines() if word == "-" else [word]) if line]
