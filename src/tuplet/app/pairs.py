"""Pairs of items to verify."""

from collections.abc import Sequence
from pathlib import Path

from tuplet.app.queries import read_queries
from tuplet.engine.topk import pair_scores
from tuplet.errors import DataError
from tuplet.models import Embedder

_TABLES = {".csv", ".tsv", ".parquet", ".jsonl"}
_SIDES = ("a", "b")


def read_pairs(typed: Sequence[str]) -> list[tuple[str, str]]:
    """Two items, or the pairs of a table with the columns `a` and `b`; paths in a table are relative to it.

    Raises:
        DataError: If there are not two items and no such table.
    """
    if len(typed) == 2:
        return [(typed[0], typed[1])]
    path = Path(typed[0])
    if len(typed) != 1 or path.suffix.lower() not in _TABLES:
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
