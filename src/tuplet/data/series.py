"""Time series from `.ts` files, the text format of the UCR and UEA archives."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuplet.data.labels import encode_names, split_name
from tuplet.data.manifest import Manifest
from tuplet.data.source_errors import SourceErrors

_Row = tuple[list[NDArray[np.float32]], str]  # one array per dimension, and the label


def read_series(files: Sequence[Path], source: Path, *, needs: Collection[str] = ()) -> Manifest:
    """Reads `.ts` files; the names `..._TRAIN.ts` and `..._TEST.ts` are splits if there are several.

    Args:
        files: What to read.
        source: What the user named: the one file, or the folder.
        needs: What must be known about the examples.

    Returns:
        Series as one array (n, channels, time) if lengths are equal, else as a tuple of (channels, time).

    Raises:
        DataError: The files have problems.
    """
    problems = SourceErrors(str(source))
    rows: list[_Row] = []
    splits: list[str] = []
    is_graded = False
    for file in files:
        head, found = _read(file, problems)
        is_graded |= head.get("targetlabel", "").split(" ")[0] == "true"
        is_labelled = is_graded or head.get("classlabel", "true").split(" ")[0] == "true"
        if not is_labelled and "label" in needs:
            problems.add("missing-column", f"{file.name} says @classLabel false", hint="Name a labelled set.")
        rows += found
        splits += [split_name(file.stem.rpartition("_")[2]) or ""] * len(found)
    if not rows and not len(problems):
        problems.add("empty-source", "there are no series below @data")
    problems.raise_if_any()
    series = [np.stack(dimensions) for dimensions, _ in rows]
    labels = [label for _, label in rows]
    classes, names = (None, ()) if is_graded else encode_names(labels)
    same = len({one.shape for one in series}) == 1
    return Manifest(
        kind="series",
        ids=tuple(str(row) for row in range(len(rows))),
        items=np.stack(series) if same else tuple(series),
        labels=classes if names else None,
        class_names=names,
        targets=np.array(labels, dtype=np.float64)[:, None] if is_graded else None,
        splits=tuple(splits) if len(files) > 1 and all(splits) else None,
        source=str(source),
    )


def _read(file: Path, problems: SourceErrors) -> tuple[dict[str, str], list[_Row]]:
    """The directives of a file, in lower case, and its rows."""
    head: dict[str, str] = {}
    rows: list[_Row] = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add("unreadable-source", f"{file.name} cannot be read as UTF-8 text ({error})")
        return head, rows
    is_data = False
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if not is_data and line.startswith("@"):
            key, _, value = line[1:].partition(" ")
            head[key.lower()] = value.strip().lower()
            is_data = key.lower() == "data"
        elif not is_data:
            problems.add("bad-series", f"{file.name} has data before @data", line=number)
            break
        else:
            try:
                rows.append(_row(line, head, len(rows[0][0]) if rows else None))
            except ValueError as error:
                problems.add("bad-series", f"{file.name}: {error}", line=number)
    return head, rows


def _row(line: str, head: dict[str, str], dimensions: int | None) -> _Row:
    """One series and its label; raises ValueError with what is wrong with them."""
    is_graded = head.get("targetlabel", "").startswith("true")
    if head.get("timestamps") == "true":
        raise ValueError("series with time stamps are not supported")
    *fields, label = line.split(":")
    if head.get("classlabel", "").startswith("false") and not is_graded:
        fields, label = [*fields, label], ""
    if not fields or dimensions not in (None, len(fields)):
        raise ValueError(f"{len(fields)} dimensions, but the first series has {dimensions or 'a label only'}")
    values = [_values(field, dimension) for dimension, field in enumerate(fields, start=1)]
    if len({len(numbers) for numbers in values}) > 1:
        lengths = ", ".join(str(len(numbers)) for numbers in values)
        raise ValueError(f"dimensions of {lengths} values, which must be equally many")
    if is_graded and not _is_finite(label):
        raise ValueError(f"the target {label!r} is not a finite number")
    return values, label


def _values(field: str, dimension: int) -> NDArray[np.float32]:
    try:
        numbers = np.array(field.split(","), dtype=np.float32)
        is_whole = bool(np.isfinite(numbers).all())
    except ValueError:
        is_whole = False
    if not is_whole:
        bad = next(cell for cell in field.split(",") if not _is_finite(cell))
        raise ValueError(f"dimension {dimension} holds {bad!r}, not a finite number")
    return numbers


def _is_finite(cell: str) -> bool:
    try:
        return bool(np.isfinite(np.float32(cell)))
    except ValueError:
        return False
