"""CSV and its relatives: a header and cells with one separator, read in blocks.

Most tables are read by pyarrow. It does not tell lines, so a table in which rows and lines differ (line breaks in
quotes, blank lines, lines with too many or too few cells, broken quotes) is read a second time, row by row, by `csv`.
"""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.csv as arrow_csv

from tuplet.data.source_errors import SourceErrors

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A number as programs write it: `1_000`, `0x1f` and `1,5` are none."""
_BLOCK = 1 << 24
"""Bytes read, and characters kept as Python objects, at a time."""
_CELL_SIZE = Lock()
"""The longest cell that `csv` reads is a setting of the whole process."""

Cells = tuple[list[pa.ChunkedArray], Sequence[int]]
"""The columns of all rows, the header among them, and the line of each row."""


def read_delimited(
    path: Path, problems: SourceErrors, *, header: bool
) -> tuple[list[str], list[pa.ChunkedArray], Sequence[int]]:
    """Names of the columns, their cells as texts, and the line of each row; faulty lines are left out.

    Raises:
        DataError: The file is not text, or its first line holds numbers where names should be.
        OSError: The system refuses to read it.
    """
    try:
        start, separator, width = _opening(path)
        if not width:
            return [], [], []
        columns, lines = _by_arrow(path, separator, start, width) or _by_row(path, separator, start, problems)
    except UnicodeDecodeError:
        problems.add("unreadable-source", _undecoded(path), hint="Save the table as UTF-8.")
        problems.raise_if_any()
        raise
    if not header or not columns:
        return [f"column{place}" for place in range(1, len(columns) + 1)], columns, lines
    names = [column[0].as_py().strip() for column in columns]
    _require_names(names, lines[0], problems)
    return names, [column.slice(1) for column in columns], lines[1:]


def _opening(path: Path) -> tuple[int, str, int]:
    """Lines above the header, the separator, and how many cells the header has; 0 if the table is blank.

    Spreadsheets write `sep=;` above a table. Elsewhere the header, which uses its separator more often than other
    signs, tells; what stands in quotes does not count.
    """
    start, separator = 0, ""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline(_BLOCK)
        if separator_line := re.fullmatch(r'"?sep=(.)"?\s*', line):
            start, separator, line = 1, separator_line[1], file.readline(_BLOCK)
        while line and not line.strip():
            line = file.readline(_BLOCK)
    separator = separator or max(",;\t", key=re.sub(r'"([^"]|"")*"', "", line).count)
    with _cells_of_any_length():
        return start, separator, len(next(csv.reader([line], delimiter=separator), []))


def _require_names(names: Sequence[str], line: int, problems: SourceErrors) -> None:
    """Refuse a first line of numbers, unless they count the columns, as pandas names them."""
    numbers = [name for name in names if re.fullmatch(NUMBER, name)]
    counted = [str(int(numbers[0]) + at) for at in range(len(numbers))] if numbers and numbers[0] in {"0", "1"} else []
    if numbers and numbers != counted:
        problems.add("no-header", f"the first line holds {', '.join(numbers[:3])} in place of names", line=line)
        problems.raise_if_any()


def _by_arrow(path: Path, separator: str, start: int, width: int) -> Cells | None:
    """The whole table, if each of its rows is one line."""
    names = [str(place) for place in range(width)]
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(column_names=names, skip_rows=start, block_size=_BLOCK),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowException:
        return None
    if len(table) + start != _count_lines(path):
        return None
    return table.columns, range(start + 1, start + 1 + len(table))


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _by_row(path: Path, separator: str, start: int, problems: SourceErrors) -> Cells:
    """The rows that have as many cells as the header; the others are problems."""
    chunks: list[list[pa.Array]] = []
    lines: list[int] = []
    block: list[list[str]] = []
    width = least = size = 0
    for line, cells in _rows(path, separator, start, problems):
        if not width:
            width = len(cells)
            least = next(place for place in range(width, 0, -1) if cells[place - 1].strip())  # the others have no name
        extra = any(cell.strip() for cell in cells[width:])
        if extra or len(cells) < least:
            problems.add("wrong-cell-count", f"{len(cells)} cells, but the header has {width}", line=line)
            continue
        lines.append(line)
        block.append(cells[:width] + [""] * (width - len(cells)))
        size += sum(map(len, cells))
        if size > _BLOCK:
            chunks.append([pa.array(column, pa.string()) for column in zip(*block, strict=True)])
            block, size = [], 0
    if block:
        chunks.append([pa.array(column, pa.string()) for column in zip(*block, strict=True)])
    return [pa.chunked_array(column) for column in zip(*chunks, strict=True)], lines


def _rows(path: Path, separator: str, start: int, problems: SourceErrors) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of all rows that are not blank."""
    with _cells_of_any_length(), path.open(encoding="utf-8-sig", newline="") as file:
        for _ in islice(file, start):
            pass
        reader = csv.reader(file, delimiter=separator, strict=True)
        line = start + 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield line, cells
                line = start + reader.line_num + 1  # a quoted cell may hold line breaks
        except csv.Error as error:
            problems.add("wrong-cell-count", f"{error}", line=line)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    with _CELL_SIZE:
        before = csv.field_size_limit(sys.maxsize)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _undecoded(path: Path) -> str:
    """Where a file stops being UTF-8."""
    try:
        path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8 text"
    return "this is not UTF-8 text"
