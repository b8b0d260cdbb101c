"""Arrays saved by `numpy.save`, with labels beside them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.faults import Faults
from tuplet.data.labels import encode_names, encode_numbers
from tuplet.data.manifest import Columns, Kind, Manifest
from tuplet.data.tables import Annotations, read_annotations

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
    faults = Faults(str(path))
    rows = _load(path, faults)
    if rows is None:
        faults.raise_if_any()
    assert rows is not None  # noqa: S101  an array or a fault
    kind = kind or _kind_of(rows.ndim)
    _check_rows(rows, kind, faults)
    labels = labels or _beside(path, "labels", (".npy", ".csv", ".txt"))
    targets = targets or _beside(path, "targets", (".npy",))
    known = _read_labels(labels, columns, faults) if labels else Annotations(None, None, (), None, None, None)
    graded = _read_targets(targets, faults) if targets else known.targets
    for name, values in ("label", known.labels), ("target", graded):
        if name in needs and values is None and not len(faults):
            faults.add(
                "missing-column", f"there are no {name}s", hint=f"Save them as {path.stem}.{name}s.npy beside it."
            )
        if values is not None and rows.ndim and len(values) != len(rows):
            faults.add("label-count", f"{len(rows)} rows, but {len(values)} {name}s in {labels or targets}")
    faults.raise_if_any()
    return Manifest(
        kind=kind,
        ids=known.ids or tuple(str(row) for row in range(len(rows))),
        items=_with_channels(rows, kind),
        labels=known.labels,
        class_names=known.class_names,
        label_sets=known.label_sets,
        targets=graded,
        splits=known.splits,
        groups=known.groups,
        source=str(path),
    )


def _kind_of(axes: int) -> Kind:
    return "series" if axes == 3 else "image" if axes == 4 else "vector"


def _with_channels(rows: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """The same rows as (n, channels, time) or (n, channels, height, width), without a copy."""
    if kind == "series" and rows.ndim == 2:
        return rows[:, None]
    if kind == "image" and rows.ndim == 3:
        return rows[:, None]
    return rows.transpose(0, 3, 1, 2) if kind == "image" and _channels_axis(rows.shape) == 3 else rows


def _channels_axis(shape: tuple[int, ...]) -> int:
    """Where (n, c, h, w) or (n, h, w, c) counts its channels; 0 if neither axis is of size 1 or 3."""
    return next((axis for axis in (1, 3) if shape[axis] in (1, 3)), 0)


def _load(path: Path, faults: Faults) -> NDArray[Any] | None:
    """An array that is read where it is needed; writing to it does not change the file."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        faults.add("unreadable-source", f"{path.name} is not a whole .npy file of numbers ({error})")
        return None


def _beside(path: Path, what: str, suffixes: tuple[str, ...]) -> Path | None:
    """`NAME.labels.npy`, else `labels.npy`, in the folder of `NAME.npy`."""
    names = [f"{stem}{suffix}" for stem in (f"{path.stem}.{what}", what) for suffix in suffixes]
    return next((file for name in names if (file := path.with_name(name)).is_file() and file != path), None)


def _check_rows(rows: NDArray[Any], kind: Kind, faults: Faults) -> None:
    axes = {"vector": (2,), "series": (2, 3), "image": (3, 4)}.get(kind, ())
    if rows.ndim not in axes or rows.dtype.kind not in "fiub":
        faults.add("bad-array", f"shape {rows.shape} of {rows.dtype} does not hold examples of kind {kind!r}")
    elif kind == "image" and (rows.dtype != np.uint8 or (rows.ndim == 4 and not _channels_axis(rows.shape))):
        hint = "Save images as uint8 (n, channels, height, width), with 1 or 3 channels."
        faults.add("bad-array", f"images of shape {rows.shape} and type {rows.dtype}", hint=hint)
    elif not rows.size:
        faults.add("empty-source", f"shape {rows.shape} holds nothing", hint="Save at least one row.")
    elif rows.dtype.kind == "f":
        _check_finite(rows, faults)


def _check_finite(rows: NDArray[Any], faults: Faults) -> None:
    step = max(1, _BLOCK // max(1, rows[0].size))
    for start in range(0, len(rows), step):
        for row, *place in np.argwhere(~np.isfinite(rows[start : start + step])).tolist():
            value = rows[(start + row, *place)]
            faults.add("not-a-number", f"row {start + row}, column {', '.join(map(str, place))} is {value}")


def _read_labels(path: Path, columns: Columns, faults: Faults) -> Annotations:
    """Classes from a file: one per row."""
    if path.suffix == ".csv":
        return read_annotations(path, columns)
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if path.suffix == ".npy":
        values = _load(path, faults)
        if values is not None:
            labels, names = _encode(values, path, faults)
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            labels, names = encode_names([line.strip() for line in lines])
        except (OSError, UnicodeDecodeError) as error:
            faults.add("unreadable-source", f"the labels in {path.name} cannot be read as UTF-8 text ({error})")
    return Annotations(None, labels, names, None, None, None)


def _encode(values: NDArray[Any], path: Path, faults: Faults) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Class ids for an array of names or numbers."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        faults.add("bad-labels", f"{path.name} has shape {values.shape}, not one label per row")
    elif values.dtype.kind in "US":
        return encode_names([str(name) for name in values.astype(np.str_).tolist()])
    elif values.dtype.kind in "iu":
        return encode_numbers(values)
    elif values.dtype.kind == "b":
        return encode_numbers(values.astype(np.int64))
    elif values.dtype.kind != "f" or not np.array_equal(values, np.trunc(values)):
        faults.add("bad-labels", f"{path.name} holds {values.dtype} values that are not whole numbers")
    elif values.size and np.abs(values).max() >= 2.0 ** (np.finfo(values.dtype).nmant + 1):
        faults.add("bad-labels", f"{path.name} holds ids too large for {values.dtype}; they were rounded when saved")
    else:
        return encode_numbers(values.astype(np.int64))
    return None, ()


def _read_targets(path: Path, faults: Faults) -> NDArray[np.float64] | None:
    """Graded labels (n, t)."""
    values = _load(path, faults)
    if values is None:
        return None
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiub":
        faults.add("bad-labels", f"{path.name} has shape {values.shape} of {values.dtype}, not numbers (n,) or (n, t)")
        return None
    graded = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    for row, column in np.argwhere(~np.isfinite(graded)).tolist():
        faults.add("not-a-number", f"row {row}, column {column} of {path.name} is {graded[row, column]}")
    return graded
