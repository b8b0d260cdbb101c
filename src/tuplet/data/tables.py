"""Tables as data sets: paths of images, numeric columns or texts, with labels and whatever else is known."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tuplet.data.audio import is_sound, undecodable_sounds, wrong_sound
from tuplet.data.cells import Table, read_cells
from tuplet.data.columns import Roles, columns_hint, counts_rows, settle_annotations, settle_columns
from tuplet.data.folders import printable
from tuplet.data.image_files import looks_like_image, undecodable, what_is_wrong
from tuplet.data.labels import distinct_groups, encode_names, encode_sets, named, splits_of_roles
from tuplet.data.manifest import Annotations, Columns, Items, Kind, Manifest
from tuplet.data.source_errors import HINTS, SourceErrors
from tuplet.errors import DataError, counted

_NAMED = 5
_LARGEST = float(np.finfo(np.float32).max)


def read_table(
    path: Path,
    *,
    kind: Kind | None,
    columns: Columns,
    needs: Collection[str] = (),
    as_trained: bool = False,
    metadata: bool = False,
    keep: Collection[str] = (),
    skip_broken: bool = False,
) -> Manifest:
    """Reads a table with a header; see `read_manifest`."""
    problems = SourceErrors(str(path))
    table = read_cells(path, problems, header=columns.header)
    how: Any = {"kind": kind, "needs": needs, "keep": keep, "as_trained": as_trained}
    roles = settle_columns(table, columns, **how, problems=problems)
    kind, of = roles.kind, roles.of
    items: Any = ()
    pairs: Any = None
    pair_kind: Kind | None = None
    are_files = kind == "image" or (kind == "series" and "path" in of)
    if are_files or kind == "text":
        source = "path" if are_files else "text"
        if source not in of:
            problems.add("missing-column", f"there is no column {source!r}", hint=columns_hint(source, table))
        is_mixed = "pair" not in of and {"path", "text"} <= of.keys()
        pair_kind = None if not is_mixed else "text" if are_files else "image"
        second = ("text" if are_files else "path") if is_mixed else "pair"
        items, pairs = (
            _items(table, place, None if what == "text" else path.parent, problems, what, skip_broken=skip_broken)
            if place is not None
            else None
            for place, what in ((of.get(source), kind), (dict(of).get(second), pair_kind or kind))  # type: ignore[call-overload]
        )
    else:
        items = _matrix(table, roles.inputs, problems)
        items = items[:, None] if kind == "series" else items  # one channel
    known = _annotations(table, columns, roles, problems)
    ids = known.ids
    if ids is None and are_files and pairs is None and "path" in of:
        ids = _unique(table, of["path"], problems)
    problems.raise_if_any()
    kept = {name: place for name in keep if (place := table.find(name)) is not None}
    unread = {name: place for name, place in _unread(table, roles).items() if place not in kept.values()}
    found = Manifest(
        kind=kind,
        items=items,
        pairs=pairs,
        pair_kind=pair_kind,
        source=str(path),
        lines=table.lines,
        columns=roles.columns(table, columns),
        unread=tuple(unread),
        metadata={name: tuple(table.texts(place)) for name, place in ((unread | kept) if metadata else kept).items()},
        **{**vars(known), "ids": ids or tuple(str(row) for row in range(len(table)))},
    )
    del table
    pa.default_memory_pool().release_unused()  # which keeps what the cells took, several times the numbers
    return _without_broken(found, path.parent) if skip_broken else found


def _unread(table: Table, roles: Roles) -> dict[str, int]:
    """Places of the columns that mean nothing to a model, by name."""
    names = enumerate(table.names)
    return {name: place for place, name in names if place not in roles.read and not counts_rows(name)}


def _files_of(items: Items | None) -> list[Path]:
    return [item for item in items if isinstance(item, Path)] if isinstance(items, tuple) else []


def _without_broken(manifest: Manifest, folder: Path) -> Manifest:
    """The examples whose images can all be decoded; the others are listed."""
    sides = [_files_of(side) for side in (manifest.items, manifest.pairs)]
    sides = [side for side in sides if side]
    files = [file for side in sides for file in side]
    sounds = manifest.kind == "series"
    seems, tried = (wrong_sound, undecodable_sounds) if sounds else (what_is_wrong, undecodable)
    wrong = {file: why for file in dict.fromkeys(files) if (why := seems(file))}
    wrong |= tried([file for file in dict.fromkeys(files) if file not in wrong])
    if not wrong:
        return manifest
    kept = [row for row in range(len(manifest)) if not any(side[row] in wrong for side in sides)]
    left_out = sorted((printable(os.path.relpath(file, folder)), why) for file, why in wrong.items())
    some = ", ".join(f"{name} ({why})" for name, why in left_out[:_NAMED]) + ", ..." * (len(left_out) > _NAMED)
    count = counted(len(manifest) - len(kept), "row is", "rows are")
    note = f"{manifest.source}: {count} left out: {some}."
    if not kept:
        raise DataError(
            f"{manifest.source} names no file that can be decoded: {some}.",
            hint="Paths are relative to the folder of the table.",
            reference="empty-source",
        )
    return replace(manifest.take(kept), left_out=tuple(left_out), notes=(*manifest.notes, note))


def read_annotations(path: Path, columns: Columns) -> Annotations:
    """Reads a table that describes the rows of an array, one line for each.

    Raises:
        DataError: The table has problems, or says neither classes nor graded labels.
    """
    problems = SourceErrors(str(path))
    table = read_cells(path, problems, header=columns.header)
    roles = settle_annotations(table, columns, problems)
    known = _annotations(table, columns, roles, problems)
    problems.raise_if_any()
    return known


def _annotations(table: Table, columns: Columns, roles: Roles, problems: SourceErrors) -> Annotations:
    of = roles.of
    cells = table.texts(of["label"]) if "label" in of else []
    known = encode_sets(cells, columns.several) if columns.several else (*encode_names(cells), None)
    labels, names, sets = known if "label" in of else (None, (), None)
    groups = None
    if "group" in of:
        groups = distinct_groups(table.texts(of["group"]), [str(line) for line in table.lines])
    roles_of = named(table.texts(of["role"]), "role", problems, table.lines) if "role" in of else None
    splits = named(table.texts(of["split"]), "split", problems, table.lines) if "split" in of else None
    return Annotations(
        ids=_unique(table, of["id"], problems) if "id" in of else None,
        labels=labels,
        class_names=names,
        targets=_numbers(table, roles.targets, problems) if roles.targets else None,
        splits=splits_of_roles(roles_of) if splits is None else splits,
        groups=groups,
        roles=roles_of,
        label_sets=sets,
    )


def _matrix(table: Table, places: Sequence[int], problems: SourceErrors) -> NDArray[Any]:
    """Some columns as rows of numbers: in float32, or in float64 where one of them needs it."""
    columns = [table.narrow(place) for place in places]
    for place, values in zip(places, columns, strict=True):
        _require_finite(table, place, values, problems)
    double = any(values.dtype == np.float64 for values in columns)
    found = np.empty((len(table), len(columns)), dtype=np.float64 if double else np.float32)
    for at, values in enumerate(columns):
        found[:, at] = values
    return found


def _numbers(table: Table, places: Sequence[int], problems: SourceErrors) -> NDArray[np.float64]:
    """Some columns as numbers (rows, columns); cells that hold none are problems."""
    found = np.empty((len(table), len(places)))
    for at, place in enumerate(places):
        found[:, at] = table.numbers(place)
        _require_finite(table, place, found[:, at], problems)
    return found


def _require_finite(table: Table, place: int, values: NDArray[Any], problems: SourceErrors) -> None:
    for row in np.flatnonzero(~(np.abs(values) <= _LARGEST)).tolist():  # NaN is not smaller either
        cell, name = table.text_at(place, row), table.names[place]
        text = f"{name} is {cell!r}, not a finite number" if cell else f"{name} is empty"
        hint = "Write numbers with a point: 1.5, not 1,5." if _has_comma(cell) else HINTS["not-a-number"]
        problems.add("not-a-number", text, line=table.lines[row], hint=hint)


def _has_comma(cell: str) -> bool:
    return cell.count(",") == 1 and cell.replace(",", "").lstrip("+-").isdecimal()


def _filled(table: Table, position: int, problems: SourceErrors) -> tuple[str, ...]:
    """A column in which every cell must say something."""
    cells = table.texts(position)
    for cell, line in zip(cells, table.lines, strict=True):
        if not cell:
            problems.add("missing-value", f"{table.names[position]} is empty", line=line)
    return tuple(cells)


def _items(
    table: Table, position: int, folder: Path | None, problems: SourceErrors, kind: Kind, *, skip_broken: bool = False
) -> tuple[Path, ...] | tuple[str, ...]:
    """A column of texts, or of files relative to `folder`; with `skip_broken` these are looked at later."""
    cells = _filled(table, position, problems)
    if folder is None:
        return cells
    files = tuple(folder / cell for cell in cells)
    if skip_broken:
        return files
    for file, line, cell in zip(files, table.lines, cells, strict=True):
        if cell and not file.is_file():
            problems.add("missing-file", f"{cell}: no such file", line=line)
        elif cell and kind == "image" and not looks_like_image(file):
            problems.add("broken-image", f"{cell} is not an image", line=line)
        elif cell and kind == "series" and not is_sound(file):
            problems.add("broken-sound", f"{cell} is not a sound", line=line)
    return files


def _unique(table: Table, position: int, problems: SourceErrors) -> tuple[str, ...]:
    """A column of which no two cells are alike."""
    cells = _filled(table, position, problems)
    first: dict[str, int] = {}
    for cell, line in zip(cells, table.lines, strict=True):
        if first.setdefault(cell, line) != line and cell:
            problems.add("duplicate-id", f"{cell!r} already appears in line {first[cell]}", line=line)
    return cells
