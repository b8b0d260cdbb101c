"""What was typed on the command line, as items that an embedder takes."""

import difflib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.app.reading import told
from tuplet.data import Columns, Manifest, read_manifest
from tuplet.data.folders import printable
from tuplet.data.read import TABLES
from tuplet.data.vocabulary import WordPreprocessing
from tuplet.errors import DataError
from tuplet.models import Embedder
from tuplet.types import Side

logger = logging.getLogger(__name__)

_FILES = {*TABLES, ".npy", ".npz", ".ts"}


def read_queries(
    embedder: Embedder, typed: Sequence[str], side: Side = "query", *, skip_broken: bool = False
) -> tuple[Any, list[str], list[str]]:
    """Items to embed, their names, and a sentence on each table that they were read from.

    Args:
        embedder: Says what an item is, and which columns of a table hold it.
        typed: Folders and tables stand for all they hold; other words are one item each: the path of an image, or a
            text. `-` stands for the lines of standard input.
        side: Of pairs, the side that is asked for.
        skip_broken: Leave out the images of folders that cannot be decoded.

    Raises:
        DataError: If there is nothing to embed, or something of another kind.
    """
    kind = embedder.side(side).preprocessing.kind
    items: list[Any] = []
    names: list[str] = []
    remarks: list[str] = []
    for word in _lines(typed):
        path = Path(word)
        if path.suffix.lower() in _FILES or (kind == "image" and path.is_dir()):
            manifest = _read(embedder, path, side, skip_broken=skip_broken)
            for note in manifest.notes:
                logger.warning("%s", note)
            remarks += [told(manifest)] if manifest.columns is not None else []
            items.extend(manifest.items)
            names.extend(manifest.ids)
        elif kind in ("image", "text", "words"):
            items.append(path if kind == "image" else word)
            names.append(printable(word))
        else:
            raise DataError(
                f"{word} is no table; the model embeds items of the kind {kind}.",
                hint="Give it a .csv, .tsv, .parquet, .jsonl, .npy, .npz or .ts file; every row is embedded.",
                reference="query-kind",
            )
    if not items:
        raise DataError("There is nothing to embed.", hint="Name at least one item.", reference="no-query")
    preprocessing = embedder.side(side).preprocessing
    if isinstance(preprocessing, WordPreprocessing):
        _refuse_unknown(names, preprocessing)
    return (np.stack(items) if kind == "vector" else items), names, remarks


def _read(embedder: Embedder, path: Path, side: Side, *, skip_broken: bool) -> Manifest:
    """A table, with the items of one side in the first place; those of the other are not asked for."""
    kind, known = embedder.side(side).preprocessing.kind, embedder.columns or Columns()
    source = "path" if kind == "image" else "text"
    if path.suffix.lower() in TABLES and kind in ("image", "text") and embedder.columns is not None:
        name = getattr(known, source) if side == "query" else known.pair or getattr(known, source)
        only: dict[str, Any] = {"path": None, "text": None, "pair": None, source: name}
        columns = replace(known, **only)
    else:
        columns = known
    return read_manifest(path, kind=kind, columns=columns, as_trained=True, skip_broken=skip_broken)


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
