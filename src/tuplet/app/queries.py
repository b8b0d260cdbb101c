"""What was typed on the command line, as items that an embedder takes."""

import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import read_manifest
from tuplet.data.folders import printable
from tuplet.data.vocabulary import WordPreprocessing
from tuplet.errors import DataError
from tuplet.models import Embedder

logger = logging.getLogger(__name__)

_TABLES = {".csv", ".tsv", ".npy", ".ts"}


def read_queries(embedder: Embedder, typed: Sequence[str], *, skip_broken: bool = False) -> tuple[Any, list[str]]:
    """Items to embed, and their names.

    Args:
        embedder: Says what an item is.
        typed: Folders and tables stand for all they hold; other words are one item each: the path of an image, or a
            text. `-` stands for the lines of standard input.
        skip_broken: Leave out the images of folders that cannot be decoded.

    Raises:
        DataError: If there is nothing to embed, or something of another kind.
    """
    kind = embedder.preprocessing.kind
    items: list[Any] = []
    names: list[str] = []
    for word in _lines(typed):
        path = Path(word)
        if path.suffix.lower() in _TABLES or (kind == "image" and path.is_dir()):
            manifest = read_manifest(path, kind=kind, skip_broken=skip_broken)
            for note in manifest.notes:
                logger.warning("%s", note)
            items.extend(manifest.items)
            names.extend(manifest.ids)
        elif kind in ("image", "text", "words"):
            items.append(path if kind == "image" else word)
            names.append(printable(word))
        else:
            raise DataError(
                f"{word} is no table; the model embeds items of the kind {kind}.",
                hint="Give it a .csv, .tsv, .npy or .ts file; every row is embedded.",
                reference="query-kind",
            )
    if not items:
        raise DataError("There is nothing to embed.", hint="Name at least one item.", reference="no-query")
    if isinstance(embedder.preprocessing, WordPreprocessing):
        _refuse_unknown(names, embedder.preprocessing)
    return (np.stack(items) if kind == "vector" else items), names


def _refuse_unknown(texts: Sequence[str], preprocessing: WordPreprocessing) -> None:
    """A text without a known word has no vector: whatever were found for it would mean nothing."""
    unknown = [text for text, known in zip(texts, preprocessing.load(texts), strict=True) if not len(known)]
    if unknown:
        shown = ", ".join(repr(text) for text in unknown[:5]) + ", ..." * (len(unknown) > 5)
        close = difflib.get_close_matches(unknown[0], preprocessing.words)
        raise DataError(
            f"No word of {shown} is among the {len(preprocessing.words):,} words of the model.",
            hint=f"Did you mean {' or '.join(map(repr, close))}?" if close else "Look up a word of the text.",
            reference="unknown-word",
        )


def _lines(typed: Sequence[str]) -> list[str]:
    return [line for word in typed for line in (sys.stdin.read().splitlines() if word == "-" else [word]) if line]
