"""Tables as columns in memory: CSV, Parquet and JSON lines."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tuplet.data.delimited import NUMBER, read_delimited
from tuplet.data.labels import MISSING
from tuplet.data.numbers import loses_in_single
from tuplet.data.source_errors import SourceErrors

_INDEX = "__index_level_0__"
"""Where pandas keeps row numbers in a Parquet file."""


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of a table, checked for shape only.

    Args:
        names: Names of the columns.
        columns: Their cells, in the order of `names`.
        lines: Line of each row in the file, counted from 1; of a file without lines, its row.
    """

    names: tuple[str, ...]
    columns: tuple[pa.ChunkedArray, ...]
    lines: tuple[int, ...]
    _narrow: dict[int, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def find(self, name: str | None) -> int | None:
        """Position of a column; upper and lower case are the same unless the exact name exists."""
        if name is None:
            return None
        if name in self.names:
            return self.names.index(name)
        casefolded = [_casefolded(known) for known in self.names]
        return casefolded.index(_casefolded(name)) if _casefolded(name) in casefolded else None

    def texts(self, position: int) -> list[str]:
        """One column as texts without surrounding space; "" where there is none."""
        column = self.columns[position]
        try:
            column = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(column, pa.large_string()), ""))
            return column.to_pylist()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a type without a text of its own
            return ["" if value is None else str(value).strip() for value in column.to_pylist()]

    def filled(self, position: int) -> list[str]:
        """The cells of a column that say something."""
        return [text for text in self.texts(position) if text not in MISSING]

    def numbers(self, position: int) -> NDArray[np.float64]:
        """One column as numbers; NaN where a cell holds none."""
        column = self.columns[position]
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = pc.cast(column, kind.value_type)
            kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return np.concatenate([np.zeros(0), *(_parsed(chunk) for chunk in column.chunks)])
        if pa.types.is_boolean(kind):
            column = pc.cast(column, pa.int8())
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            return np.full(len(column), np.nan)
        return np.asarray(pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan), dtype=np.float64)

    def narrow(self, position: int) -> NDArray[Any]:
        """The same in float32, where that is enough to tell them apart."""
        if position not in self._narrow:
            values = self.numbers(position)
            with np.errstate(over="ignore"):  # what is too large is infinite, which its reader reports
                wide = loses_in_single(values[:, None])
                self._narrow[position] = values if wide else values.astype(np.float32)
        return self._narrow[position]

    def is_numeric(self, position: int) -> bool:
        """Whether most of the cells that say anything are numbers."""
        values = self.narrow(position)
        without = np.flatnonzero(np.isnan(values))
        if not len(without):
            return bool(len(values))
        if len(without) == len(values):
            return False
        distinct = Table(("",), (self.columns[position].take(pa.array(without)),), ()).filled(0)
        return len(values) - len(without) >= len(distinct)

    def text_at(self, position: int, row: int) -> str:
        """One cell."""
        value = self.columns[position][row].as_py()
        return "" if value is None else str(value).strip()


def read_cells(path: Path, problems: SourceErrors, *, header: bool = True) -> Table:
    """The columns of a file, by its ending.

    Args:
        path: `.csv` or `.tsv`, `.parquet`, `.jsonl`.
        problems: Of lines that are left out.
        header: Whether the first line of a CSV table names the columns; without, they are `column1`, `column2`, ...

    Raises:
        DataError: The file cannot be read at all, or has no columns or no rows.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            names, columns = _of_parquet(path)
            lines: Sequence[int] = range(1, 1 + (len(columns[0]) if columns else 0))
            problems.unit = "row"
        elif suffix == ".jsonl":
            names, columns, lines = _of_json(path, problems)
        else:
            names, columns, lines = read_delimited(path, problems, header=header)
    except OSError as error:
        problems.add("unreadable-source", f"{error.strerror or error}")
        problems.raise_if_any()
        raise
    table = _without_empty(Table(tuple(names), tuple(columns), tuple(lines)))
    for name, count in Counter(table.names).items():
        if count > 1:
            problems.add(
                "missing-column", f"{count} columns are called {name!r}", hint="Give every column its own name."
            )
    if not len(table):
        problems.add("empty-source", "there are no rows below the header" if names else "the table is empty")
        problems.raise_if_any()
    return table


def _casefolded(name: str) -> str:
    return normalize("NFC", name.strip()).casefold()


def _parsed(chunk: pa.Array) -> NDArray[np.float64]:
    """Texts as numbers."""
    try:
        return np.asarray(pc.fill_null(pc.cast(chunk, pa.float64()), np.nan))
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(chunk)
    digits = pc.if_else(pc.match_substring_regex(trimmed, f"^({NUMBER})$"), trimmed, None)
    numbers = pc.cast(pc.replace_substring(digits, "+", "", max_replacements=1), pa.float64())
    return np.asarray(pc.fill_null(numbers, np.nan))


def _without_empty(table: Table) -> Table:
    """Without rows that say nothing, and without columns that have neither a name nor a cell."""
    blank = np.ones(len(table), dtype=np.bool_)
    for column in table.columns:
        if not blank.any():
            break
        blank &= _are_blank(column)
    lines = tuple(line for line, is_blank in zip(table.lines, blank.tolist(), strict=True) if not is_blank)
    columns = table.columns if not blank.any() else tuple(one.filter(pa.array(~blank)) for one in table.columns)
    keep = [at for at, name in enumerate(table.names) if name or not _are_blank(columns[at]).all()]
    return Table(tuple(table.names[at] for at in keep), tuple(columns[at] for at in keep), lines)


def _are_blank(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return np.asarray(pc.is_null(column), dtype=np.bool_)
    return np.asarray(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(column, ""))), 0), dtype=np.bool_)


def _of_parquet(path: Path) -> tuple[list[str], list[pa.ChunkedArray]]:
    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise OSError(f"this is not a complete Parquet file ({str(error).splitlines()[0]})") from error
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        for part, values in _spread(name, column):
            if part != _INDEX:
                names.append(part)
                columns.append(values)
    return names, columns


def _spread(name: str, column: pa.ChunkedArray) -> list[tuple[str, pa.ChunkedArray]]:
    """A column of vectors of one length as columns of numbers, `name.0`, `name.1`, ...; others as they are."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return [(name, column)]
    is_number = pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if not is_number or len(lengths) != 1 or not lengths[0]:
        return [(name, column)]
    values = np.asarray(pc.list_flatten(column)).reshape(-1, lengths[0])
    return [(f"{name}.{at}", pa.chunked_array([pa.array(values[:, at])])) for at in range(lengths[0])]


def _of_json(path: Path, problems: SourceErrors) -> tuple[list[str], list[pa.ChunkedArray], list[int]]:
    """An object on each line; what one does not name is missing there."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                problems.add("bad-json", f"this is not JSON ({error})", line=number)
                continue
            if isinstance(row, dict):
                rows.append(row)
                lines.append(number)
            else:
                problems.add("bad-json", f"this is {type(row).__name__}, not an object", line=number)
    if not rows:
        problems.raise_if_any()
    names, columns = [], []
    for name in dict.fromkeys(name for row in rows for name in row):
        for part, values in _spread(name, _of_values([row.get(name) for row in rows])):
            names.append(part)
            columns.append(values)
    return names, columns, lines


def _of_values(values: list[Any]) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, OverflowError):  # of several types
        texts = [one if one is None or isinstance(one, str) else json.dumps(one) for one in values]
        return pa.chunked_array([pa.array(texts, pa.string())])
