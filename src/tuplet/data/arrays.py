"""Arrays saved by `numpy.save`, with labels beside them."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.axes import check_axes, kind_of, with_channels
from tuplet.data.labels import UNKNOWN, encode_names, encode_numbers
from tuplet.data.manifest import Annotations, Columns, Kind, Manifest
from tuplet.data.source_errors import SourceErrors

_BLOCK = 1 << 24  # numbers looked at together: a memory-mapped array is never held whole


def read_array(
    path: Path,
    labels: Path | None,
    targets: Path | None,
    *,
    kind: Kind | None,
    columns: Columns,
    needs: Collection[str] = (),
) -> Manifest:
    """Reads rows from a `.npy`, memory-mapped, and what stands beside it; see `read_manifest`."""
    problems = SourceErrors(str(path))
    rows = _load(path, problems)
    if rows is None:
        problems.raise_if_any()
    assert rows is not None  # noqa: S101  an array or a problem
    labels = labels or _beside(path, "labels", (".npy", ".csv", ".txt"))
    targets = targets or _beside(path, "targets", (".npy",))
    known = _read_labels(labels, columns, problems) if labels else Annotations(None, None, (), None, None, None)
    values = _load(targets, problems) if targets else None
    if targets and values is not None:
        known = replace(known, targets=graded(values, targets.name, problems))
    for name, values in ("label", known.labels), ("target", known.targets):
        if name in needs and values is None and not len(problems):
            problems.add(
                "missing-column", f"there are no {name}s", hint=f"Save them as {path.stem}.{name}s.npy beside it."
            )
        if values is not None and rows.ndim and len(values) != len(rows):
            problems.add("label-count", f"{len(rows)} rows, but {len(values)} {name}s in {labels or targets}")
    return of_rows(rows, known, path, kind=kind, problems=problems)


def of_rows(
    rows: NDArray[Any], known: Annotations, path: Path, *, kind: Kind | None, problems: SourceErrors
) -> Manifest:
    """The examples of an array, and what is known of them.

    Args:
        rows: Examples along the first axis.
        known: One of each for each row.
        path: Where they were read.
        kind: What an example is; None lets the number of axes tell.
        problems: Those so far; whatever there is is raised.
    """
    kind, notes = kind_of(rows, kind, path.name, problems)
    check_axes(rows, kind, problems)
    if not len(problems) and not rows.size:
        problems.add("empty-source", f"shape {rows.shape} holds nothing", hint="Save at least one row.")
    elif rows.ndim and rows.size and rows.dtype.kind == "f":
        _check_finite(rows, problems)
    problems.raise_if_any()
    return Manifest(
        kind=kind,
        ids=known.ids or tuple(str(row) for row in range(len(rows))),
        items=with_channels(rows, kind),
        labels=known.labels,
        class_names=known.class_names,
        label_sets=known.label_sets,
        targets=known.targets,
        splits=known.splits,
        groups=known.groups,
        roles=known.roles,
        source=str(path),
        notes=notes,
    )


def _load(path: Path, problems: SourceErrors) -> NDArray[Any] | None:
    """An array that is read where it is needed; writing to it does not change the file."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "pickle" in str(error):
            hint = f"Save numbers or texts: np.save({path.name!r}, array.astype(float)), or astype(str) for labels."
            text = f"{path.name} holds Python objects, whose loading could run code"
            problems.add("unreadable-source", text, hint=hint)
        else:
            problems.add("unreadable-source", f"{path.name} is not a whole .npy file of numbers ({error})")
        return None


def _beside(path: Path, what: str, suffixes: tuple[str, ...]) -> Path | None:
    """`NAME.labels.npy`, else `labels.npy`, in the folder of `NAME.npy`."""
    names = [f"{stem}{suffix}" for stem in (f"{path.stem}.{what}", what) for suffix in suffixes]
    return next((file for name in names if (file := path.with_name(name)).is_file() and file != path), None)


def _check_finite(rows: NDArray[Any], problems: SourceErrors) -> None:
    step = max(1, _BLOCK // max(1, rows[0].size))
    for start in range(0, len(rows), step):
        for row, *place in np.argwhere(~np.isfinite(rows[start : start + step])).tolist():
            value = rows[(start + row, *place)]
            problems.add("not-a-number", f"row {start + row}, column {', '.join(map(str, place))} is {value}")


def _read_labels(path: Path, columns: Columns, problems: SourceErrors) -> Annotations:
    """Classes from a file: one per row."""
    if path.suffix == ".csv":
        from tuplet.data.tables import read_annotations  # noqa: PLC0415  pyarrow takes a while

        return read_annotations(path, columns)
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if path.suffix == ".npy":
        values = _load(path, problems)
        if values is not None:
            labels, names = encode(values, path.name, problems)
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            labels, names = encode_names([line.strip() for line in lines])
        except (OSError, UnicodeDecodeError) as error:
            problems.add("unreadable-source", f"the labels in {path.name} cannot be read as UTF-8 text ({error})")
    return Annotations(None, labels, names, None, None, None)


def encode(values: NDArray[Any], name: str, problems: SourceErrors) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Class ids for an array of names or numbers; `name` is what the array is called in problems."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        problems.add("bad-labels", f"{name} has shape {values.shape}, not one label per row")
    elif values.dtype.kind in "US":
        return encode_names([str(text) for text in values.astype(np.str_).tolist()])
    elif values.dtype.kind in "iu":
        return encode_numbers(values)
    elif values.dtype.kind == "b":
        return encode_numbers(values.astype(np.int64))
    elif values.dtype.kind != "f" or not np.array_equal(values, np.trunc(values), equal_nan=True):
        problems.add("bad-labels", f"{name} holds {values.dtype} values that are not whole numbers")
    else:
        known = np.where(np.isnan(values), UNKNOWN, values)
        if known.size and np.abs(known).max() >= 2.0 ** (np.finfo(values.dtype).nmant + 1):
            text = f"{name} holds ids too large for {values.dtype}; they were rounded when saved"
            problems.add("bad-labels", text)
        else:
            return encode_numbers(known.astype(np.int64))
    return None, ()


def graded(values: NDArray[Any], name: str, problems: SourceErrors) -> NDArray[np.float64] | None:
    """Graded labels (n, t); `name` is what the array is called in problems."""
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiub":
        problems.add("bad-labels", f"{name} has shape {values.shape} of {values.dtype}, not numbers (n,) or (n, t)")
        return None
    found = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    for row, column in np.argwhere(~np.isfinite(found)).tolist():
        problems.add("not-a-number", f"row {row}, column {column} of {name} is {found[row, column]}")
    return found
