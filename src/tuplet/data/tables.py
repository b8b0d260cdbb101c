"""CSV tables: paths of images, numeric columns or texts, with labels and whatever else is known."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.faults import Faults
from tuplet.data.image_files import looks_like_image
from tuplet.data.labels import SPLITS, encode_names, encode_sets, split_name
from tuplet.data.manifest import Columns, Kind, Manifest
from tuplet.registry import did_you_mean

_LARGEST = float(np.finfo(np.float32).max)
_ROW_NUMBER = r"|index|unnamed: \d+"
"""Names of the column of row numbers that pandas writes."""
_ASKS, _ANSWERS = "query", "positive"
"""Names that pairs of texts have too."""
_LABEL_LIKE = ("class", "class_id", "class_name", "classes", "category", "labels", "y")


@dataclass(frozen=True)
class Table:
    """The cells of a table, checked for shape only.

    Args:
        header: Names of the columns.
        rows: Cells of each row, as many as columns.
        lines: Line of each row in the file, counted from 1.
    """

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: tuple[int, ...]

    def find(self, name: str) -> int | None:
        """Position of a column; upper and lower case are the same unless the exact name exists."""
        if name in self.header:
            return self.header.index(name)
        lower = [known.lower() for known in self.header]
        return lower.index(name.lower()) if name.lower() in lower else None

    def cells(self, column: int) -> list[str]:
        """One column, without surrounding space."""
        return [row[column].strip() for row in self.rows]


def read_cells(path: Path, faults: Faults) -> Table:
    """Splits a file into cells; a line with too few or too many of them is a fault and left out.

    Raises:
        DataError: The file cannot be read at all, or has no header or no rows.
    """
    lines = _split_lines(_text(path, faults), faults)
    header = tuple(cell.strip() for cell in lines[0][1]) if lines else ()
    for name, count in Counter(header).items():
        if count > 1:
            faults.add("missing-column", f"{count} columns are called {name!r}", hint="Give every column its own name.")
    for line, cells in lines:
        if len(cells) != len(header):
            faults.add("wrong-cell-count", f"{len(cells)} cells, but the header has {len(header)}", line=line)
    if len(lines) < 2:
        faults.add("empty-source", "there are no rows below the header" if lines else "the table is empty")
    whole = [(line, cells) for line, cells in lines[1:] if len(cells) == len(header)]
    if not whole:
        faults.raise_if_any()
    return Table(header, [cells for _, cells in whole], tuple(line for line, _ in whole))


def _text(path: Path, faults: Faults) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add("unreadable-source", f"byte {error.start} is not UTF-8 text", hint="Save the table as UTF-8.")
    except OSError as error:
        faults.add("unreadable-source", f"{error.strerror}")
    faults.raise_if_any()
    return ""


def _split_lines(text: str, faults: Faults) -> list[tuple[int, list[str]]]:
    """Line number and cells of all lines that are not blank; the separator is the one the header uses most."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1  # a quoted cell may hold line breaks
    except csv.Error as error:
        faults.add("wrong-cell-count", f"{error}", line=line)
    return found


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a table says about its rows, apart from the inputs themselves; see `Manifest`."""

    ids: tuple[str, ...] | None
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    targets: NDArray[np.float64] | None
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    label_sets: NDArray[np.bool_] | None = None


def read_table(path: Path, *, kind: Kind | None, columns: Columns, needs: Collection[str] = ()) -> Manifest:
    """Reads a table with a header; see `read_manifest`."""
    faults = Faults(str(path))
    table = read_cells(path, faults)
    columns = _of_pairs(table, columns)
    roles = _roles(table, columns, needs, faults)
    kind = kind or ("image" if "path" in roles else "text" if "text" in roles else "vector")
    items: Any = ()
    pairs: Any = None
    pair_kind: Kind | None = None
    read = {*roles.values(), *_graded(table, columns, roles)}
    if kind in ("image", "text"):
        source = "path" if kind == "image" else "text"
        if source not in roles:
            faults.add("missing-column", f"there is no column {source!r}", hint=_columns_hint(source, table))
        other: Kind = "text" if kind == "image" else "image"
        is_mixed = "pair" not in roles and {"path", "text"} <= roles.keys()
        pair_kind = other if is_mixed else None
        second = ("text" if kind == "image" else "path") if is_mixed else "pair"
        items, pairs = (
            _items(table, roles[role], path.parent if what == "image" else None, faults) if role in roles else None
            for role, what in ((source, kind), (second, pair_kind or kind))
        )
    else:
        inputs = _inputs(table, columns, roles, faults)
        read |= {*inputs}
        with np.errstate(over="ignore"):  # what is too large is a fault already
            items = _numbers(table, inputs, faults).astype(np.float32)
        items = items[:, None] if kind == "series" else items  # one channel
    known = _annotations(table, columns, roles, faults)
    ids = known.ids
    if ids is None and kind == "image" and pairs is None and "path" in roles:
        ids = _unique(table, roles["path"], faults)
    faults.raise_if_any()
    return Manifest(
        kind=kind,
        ids=ids or tuple(str(row) for row in range(len(table.rows))),
        items=items,
        labels=known.labels,
        class_names=known.class_names,
        label_sets=known.label_sets,
        targets=known.targets,
        pairs=pairs,
        pair_kind=pair_kind,
        splits=known.splits,
        groups=known.groups,
        source=str(path),
        lines=table.lines,
        unread=tuple(name for place, name in enumerate(table.header) if place not in read and not _counts_rows(name)),
    )


def read_lines(path: Path) -> Manifest:
    """Reads a plain text file: every line that is not blank is an example.

    Raises:
        DataError: The file cannot be read, or all of it is blank.
    """
    faults = Faults(str(path))
    lines = {
        number: line.strip() for number, line in enumerate(_text(path, faults).splitlines(), start=1) if line.strip()
    }
    if not lines:
        faults.add("empty-source", "there is no text in it")
    faults.raise_if_any()
    return Manifest(
        kind="text",
        ids=tuple(str(number) for number in lines),
        items=tuple(lines.values()),
        source=str(path),
        lines=tuple(lines),
    )


def read_annotations(path: Path, columns: Columns) -> Annotations:
    """Reads a table that describes the rows of an array, one line for each.

    Raises:
        DataError: The table has faults, or says neither classes nor graded labels.
    """
    faults = Faults(str(path))
    table = read_cells(path, faults)
    roles = _roles(table, columns, (), faults)
    if "label" not in roles and not _graded(table, columns, roles):
        faults.add("missing-column", "there is no column 'label'", hint=_columns_hint("label", table))
    known = _annotations(table, columns, roles, faults)
    faults.raise_if_any()
    return known


def _annotations(table: Table, columns: Columns, roles: dict[str, int], faults: Faults) -> Annotations:
    graded = _graded(table, columns, roles)
    cells = table.cells(roles["label"]) if "label" in roles else []
    known = encode_sets(cells, columns.several) if columns.several else (*encode_names(cells), None)
    labels, names, sets = known if "label" in roles else (None, (), None)
    return Annotations(
        ids=_unique(table, roles["id"], faults) if "id" in roles else None,
        labels=labels,
        class_names=names,
        targets=_numbers(table, graded, faults) if graded else None,
        splits=_splits(table, roles["split"], faults) if "split" in roles else None,
        groups=tuple(table.cells(roles["group"])) if "group" in roles else None,
        label_sets=sets,
    )


def _roles(table: Table, columns: Columns, needs: Collection[str], faults: Faults) -> dict[str, int]:
    """Position of each column that has a meaning of its own."""
    usual = Columns()
    roles: dict[str, int] = {}
    for role in ("id", "path", "text", "label", "pair", "split", "group"):
        name = getattr(columns, role)
        position = table.find(name)
        if position is not None:
            roles[role] = position
        elif role in needs or name != getattr(usual, role):
            faults.add("missing-column", f"there is no column {name!r}", hint=_columns_hint(role, table))
    for name in columns.targets or ():
        if table.find(name) is None:
            faults.add("missing-column", f"there is no column {name!r}", hint=_columns_hint("target", table))
    if "target" in needs and not _graded(table, columns, roles):
        faults.add("missing-column", "there is no column 'target'", hint=_columns_hint("target", table))
    return roles


def _of_pairs(table: Table, columns: Columns) -> Columns:
    """The columns `query` and `positive` are pairs of texts, unless another column says what an example is."""
    usual = Columns()
    mine, theirs = (columns.path, columns.text, columns.pair), (usual.path, usual.text, usual.pair)
    is_plain = mine == theirs and all(table.find(name) is None for name in theirs)
    if is_plain and None not in (table.find(_ASKS), table.find(_ANSWERS)):
        return replace(columns, text=_ASKS, pair=_ANSWERS)
    return columns


def _counts_rows(name: str) -> bool:
    return re.fullmatch(_ROW_NUMBER, name, re.IGNORECASE) is not None


def _columns_hint(role: str, table: Table) -> str:
    option = "targets" if role == "target" else role
    close = did_you_mean(role, [*table.header])
    return f"Rename a column to {role!r}, or type --set data.columns.{option}=NAME. {close}"


def _graded(table: Table, columns: Columns, roles: dict[str, int]) -> list[int]:
    """Positions of the graded labels."""
    taken = set(roles.values())
    if columns.targets is not None:
        return [position for name in columns.targets if (position := table.find(name)) is not None]
    named = [position for position, name in enumerate(table.header) if name.lower().startswith("target")]
    return [position for position in named if position not in taken and _is_mostly_numeric(table.cells(position))]


def _inputs(table: Table, columns: Columns, roles: dict[str, int], faults: Faults) -> list[int]:
    """Positions of the columns that make up a vector."""
    if columns.inputs is not None:
        for name in columns.inputs:
            if table.find(name) is None:
                faults.add("missing-column", f"there is no column {name!r}", hint=did_you_mean(name, [*table.header]))
        return [position for name in columns.inputs if (position := table.find(name)) is not None]
    taken = {*roles.values(), *_graded(table, columns, roles)}
    free = [position for position in range(len(table.header)) if position not in taken]
    numbered = [position for position in free if re.fullmatch(r"x_?\d*", table.header[position], re.IGNORECASE)]
    if numbered:
        return numbered
    # A column without a name is the row number that pandas writes; as an input it would give sorted classes away.
    found = [p for p in free if not _counts_rows(table.header[p])]
    found = [position for position in found if _is_mostly_numeric(table.cells(position))]
    suspects = [table.header[p] for p in found if "label" not in roles and table.header[p].lower() in _LABEL_LIKE]
    for name in suspects:
        faults.add("missing-column", f"column {name!r} looks like the label", hint=_columns_hint("label", table))
    if not found:
        faults.add(
            "missing-column",
            f"there is no column 'path', no column 'text' and no column of numbers, only {', '.join(table.header)}",
            hint="Say which column holds texts: --set data.columns.text=NAME; or paths of images: "
            "--set data.columns.path=NAME; and of pairs, which holds the answers: --set data.columns.pair=NAME",
        )
    return found


def _is_mostly_numeric(cells: Sequence[str]) -> bool:
    return 2 * sum(_number(cell) is not None for cell in cells) >= len(cells)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(table: Table, positions: Sequence[int], faults: Faults) -> NDArray[np.float64]:
    """Some columns as numbers (rows, columns); cells that hold none are faults."""
    found = np.empty((len(table.rows), len(positions)))
    for column, position in enumerate(positions):
        cells = table.cells(position)
        found[:, column] = [np.nan if (number := _number(cell)) is None else number for cell in cells]
        for row in np.flatnonzero(~(np.abs(found[:, column]) <= _LARGEST)).tolist():  # NaN is not smaller either
            cell, name = cells[row], table.header[position]
            told = f"{name} is {cell!r}, not a finite number" if cell else f"{name} is empty"
            faults.add("not-a-number", told, line=table.lines[row])
    return found


def _filled(table: Table, position: int, faults: Faults) -> tuple[str, ...]:
    """A column in which every cell must say something."""
    cells = table.cells(position)
    for cell, line in zip(cells, table.lines, strict=True):
        if not cell:
            faults.add("missing-value", f"{table.header[position]} is empty", line=line)
    return tuple(cells)


def _items(table: Table, position: int, folder: Path | None, faults: Faults) -> tuple[Path, ...] | tuple[str, ...]:
    """A column of texts, or of image files relative to `folder`."""
    cells = _filled(table, position, faults)
    if folder is None:
        return cells
    files = tuple(folder / cell for cell in cells)
    for file, line, cell in zip(files, table.lines, cells, strict=True):
        if cell and not file.is_file():
            faults.add("missing-file", f"{cell}: no such file", line=line)
        elif cell and not looks_like_image(file):
            faults.add("broken-image", f"{cell} is not an image", line=line)
    return files


def _unique(table: Table, position: int, faults: Faults) -> tuple[str, ...]:
    """A column of which no two cells are alike."""
    cells = _filled(table, position, faults)
    first: dict[str, int] = {}
    for cell, line in zip(cells, table.lines, strict=True):
        if first.setdefault(cell, line) != line and cell:
            faults.add("duplicate-id", f"{cell!r} already stands in line {first[cell]}", line=line)
    return cells


def _splits(table: Table, position: int, faults: Faults) -> tuple[str, ...]:
    found = []
    for cell, line in zip(table.cells(position), table.lines, strict=True):
        name = split_name(cell)
        if name is None:
            faults.add("unknown-split", f"the split is {cell!r}", line=line, hint=did_you_mean(cell, [*SPLITS]))
        found.append(name or "")
    return tuple(found)
