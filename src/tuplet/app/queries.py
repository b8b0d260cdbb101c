"""What was typed on the command line, as items that an embedder takes."""

import difflib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.app.described import describe
from tuplet.data import Manifest, read_manifest
from tuplet.data.folders import printable
from tuplet.data.read import TABLES
from tuplet.data.words import WordPreprocessing
from tuplet.engine.topk import pair_scores
from tuplet.errors import DataError, counted
from tuplet.models import Embedder
from tuplet.types import Side

logger = logging.getLogger(__name__)

_SIDES = ("a", "b")  # columns of a table of pairs
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
    kind, has_files = embedder.side(side).preprocessing.kind, reads_files(embedder, side)
    items: list[Any] = []
    names: list[str] = []
    notes: list[str] = []
    for word in _lines(typed):
        path = Path(word)
        if has_files or path.suffix.lower() in _FILES:
            _refuse_pipe(path)
        if path.suffix.lower() in _FILES or (has_files and path.is_dir()):
            manifest = _read(embedder, path, side, skip_broken=skip_broken)
            for note in manifest.notes:
                logger.warning("%s", note)
            notes += [describe(manifest)] if manifest.columns is not None else []
            items.extend(manifest.items)
            names.extend(manifest.ids)
        elif has_files or kind in ("text", "words"):
            items.append(path if has_files else word)
            names.append(printable(word))
        else:
            raise DataError(
                f"{word} is not a table; the model embeds items of the kind {kind}.",
                hint="Give it a .csv, .tsv, .parquet, .jsonl, .npy, .npz or .ts file; every row is embedded.",
                reference="query-kind",
            )
    if not items:
        raise DataError("There is nothing to embed.", hint="Name at least one item.", reference="no-query")
    preprocessing = embedder.side(side).preprocessing
    if isinstance(preprocessing, WordPreprocessing):
        require_known_words(names, preprocessing)
    return (np.stack(items) if kind == "vector" else items), names, notes


def reads_files(embedder: Embedder, side: Side = "query") -> bool:
    """Whether an item is a file of its own: an image, or a sound."""
    preprocessing: Any = embedder.side(side).preprocessing
    return bool(preprocessing.kind == "image" or getattr(preprocessing, "rate", 0))


def embedded_queries(
    embedder: Embedder,
    typed: Sequence[str],
    *,
    texts: Sequence[str] = (),
    vectors: Sequence[str] = (),
    skip_broken: bool = False,
) -> tuple[Float[Tensor, "queries dim"], list[str], list[str]]:
    """Embeddings of what was asked for, their names, and a sentence on each table that they were read from.

    Args:
        embedder: The model.
        typed: See `read_queries`.
        texts: Texts, also those that look like the name of a file; of pairs, on the side that reads texts.
        vectors: Embeddings: numbers with commas between them, or a `.npy` of rows.
        skip_broken: Leave out the images of folders that cannot be decoded.

    Raises:
        DataError: If there is nothing to search for, or something of another kind.
    """
    rows: list[Tensor] = []
    names: list[str] = []
    notes: list[str] = []
    if typed or not (texts or vectors):
        items, names, notes = read_queries(embedder, typed, skip_broken=skip_broken)
        rows.append(embedder.embed(items))
    if texts:
        side = text_side(embedder)
        preprocessing = embedder.side(side).preprocessing
        if isinstance(preprocessing, WordPreprocessing):
            require_known_words(texts, preprocessing)
        rows.append(embedder.embed(list(texts), side=side))
        names += map(printable, texts)
    for word in vectors:
        found = _vectors(word, embedder.dim)
        rows.append(found)
        names += [word] if len(found) == 1 else [f"{word}:{row}" for row in range(len(found))]
    return torch.cat(rows), names, notes


def text_side(embedder: Embedder) -> Side:
    """The side of an embedder that reads texts.

    Raises:
        DataError: If neither does.
    """
    sides: tuple[Side, ...] = ("query", "partner")
    side = next((side for side in sides if embedder.side(side).preprocessing.kind in ("text", "words")), None)
    if side is None:
        raise DataError(
            f"The model embeds items of the kind {embedder.preprocessing.kind}, not texts.",
            hint="Search for a file, or use a model of texts.",
            reference="query-kind",
        )
    return side


def _refuse_pipe(path: Path) -> None:
    """Whoever opens a pipe waits for its other end, perhaps for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(
            f"{path} is neither a file nor a folder.",
            hint="Write what comes from it into a file first, or name the files: each line of standard input is one "
            "where `-` stands.",
            reference="not-a-file",
        )


def _vectors(word: str, dim: int) -> Tensor:
    """Embeddings that were typed, or are in a file."""
    try:
        if word.endswith(".npy"):
            _refuse_pipe(Path(word))
            found = np.atleast_2d(np.load(word, allow_pickle=False)).astype(np.float32)
        else:
            found = np.array([[float(part) for part in word.split(",")]], dtype=np.float32)
    except (OSError, ValueError) as problem:
        raise DataError(
            f"--vector {word}: {problem}.",
            hint="Give numbers separated by commas, 0.1,0.2,..., or name a .npy of rows.",
            reference="query-vector",
        ) from problem
    if found.ndim != 2 or found.shape[1] != dim or not np.isfinite(found).all():
        shape = " x ".join(map(str, found.shape))
        raise DataError(
            f"--vector {word}: {shape} numbers; an embedding of this model has {dim}, all finite.",
            hint="tuplet embed writes such embeddings.",
            reference="query-vector",
        )
    return torch.from_numpy(found)


def read_collection(
    embedder: Embedder, path: Path, side: Side = "query", *, skip_broken: bool = False
) -> tuple[Manifest, list[str]]:
    """What to put into an index: a folder, a table, an array or a single image, with all that is known of its items.

    Args:
        embedder: Says what an item is, and which columns of a table hold it.
        path: What was named.
        side: Of pairs, the side that is indexed.
        skip_broken: Leave out the images of folders that cannot be decoded.

    Returns:
        The items, and sentences on how they were read.

    Raises:
        DataError: If it cannot be read, or holds something of another kind.
    """
    _refuse_pipe(path)
    kind = embedder.side(side).preprocessing.kind
    if reads_files(embedder, side) and path.is_file() and path.suffix.lower() not in _FILES:
        return Manifest(kind, (printable(path.as_posix()),), (path,), source=str(path)), []
    manifest = _read(embedder, path, side, skip_broken=skip_broken, metadata=True)
    if manifest.kind != kind and not {manifest.kind, kind} <= {"text", "words"}:
        raise DataError(
            f"{path} holds items of the kind {manifest.kind}; the model embeds items of the kind {kind}.",
            hint="Name a collection of that kind, or another model: --model RUN",
            reference="query-kind",
        )
    return manifest, [*manifest.notes, *([describe(manifest)] if manifest.columns is not None else [])]


def _read(embedder: Embedder, path: Path, side: Side, *, skip_broken: bool, metadata: bool = False) -> Manifest:
    """A table, with the items of one side in the first place; those of the other are not asked for."""
    kind, columns = embedder.side(side).preprocessing.kind, embedder.columns
    source = "path" if reads_files(embedder, side) else "text"
    if path.suffix.lower() in TABLES and (source == "path" or kind == "text") and columns is not None:
        name = getattr(columns, source) if side == "query" else columns.pair or getattr(columns, source)
        only: dict[str, Any] = {"path": None, "text": None, "pair": None, source: name}
        columns = replace(columns, **only)
    return read_manifest(path, kind=kind, columns=columns, as_trained=True, skip_broken=skip_broken, metadata=metadata)


def require_known_words(texts: Sequence[str], preprocessing: WordPreprocessing) -> None:
    """Refuse a text without a known word: it has no vector, and whatever were found for it would mean nothing.

    Raises:
        DataError: If no word of a text is in the vocabulary of the model.
    """
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


def read_pairs(typed: Sequence[str]) -> list[tuple[str, str]]:
    """Two items, or the pairs of a table with the columns `a` and `b`; paths in a table are relative to it.

    Raises:
        DataError: If there are not two items and no such table.
    """
    if len(typed) == 2:
        return [(typed[0], typed[1])]
    path = Path(typed[0])
    if len(typed) != 1 or path.suffix.lower() not in TABLES:
        raise DataError(
            f"{len(typed)} items are not a pair.",
            hint="Name two items, or one table with the columns a and b.",
            reference="pairs-to-verify",
        )
    from tuplet.data.cells import read_cells
    from tuplet.data.source_errors import SourceErrors

    problems = SourceErrors(str(path))
    table = read_cells(path, problems)
    problems.raise_if_any()
    places = [table.find(side) for side in _SIDES]
    if None in places:
        raise DataError(
            f"{path} has the columns {', '.join(table.names)}; pairs stand in columns called a and b.",
            hint="Rename two columns to a and b.",
            reference="pairs-to-verify",
        )
    first, second = (table.texts(place) for place in places if place is not None)
    if empty := [row for row, pair in enumerate(zip(first, second, strict=True), 1) if not all(pair)]:
        shown = ", ".join(map(str, empty[:5])) + ", ..." * (len(empty) > 5)
        raise DataError(
            f"{path}: {counted(len(empty), 'row', 'rows')} below the header without an item in a or b: {shown}.",
            hint="Write an item into both columns of each row, or delete these rows.",
            reference="pairs-to-verify",
        )
    return [(_beside(path, a), _beside(path, b)) for a, b in zip(first, second, strict=True)]


def scored(embedder: Embedder, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The score of each pair; an item that stands in several is embedded once.

    Raises:
        DataError: If an item cannot be read, or is a table or a folder.
    """
    different = list(dict.fromkeys(item for pair in pairs for item in pair))
    items, names, _ = read_queries(embedder, different)
    if len(names) != len(different):
        raise DataError(
            "Each side of a pair is one item, not a folder or a table of several.",
            hint="Put the pairs into a table with the columns a and b.",
            reference="pairs-to-verify",
        )
    rows, place = embedder.embed(items).double(), {item: at for at, item in enumerate(different)}
    first, second = (rows[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return pair_scores(first, second, embedder.geometry).tolist()


def _beside(table: Path, cell: str) -> str:
    file = table.parent / cell
    return str(file) if file.is_file() else cell
