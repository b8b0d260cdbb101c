"""One door for all sources: folders, tables, arrays, series, and collections that are packed."""

import shutil
import weakref
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tuplet.data.archives import read_archive
from tuplet.data.arrays import read_array
from tuplet.data.folders import IMAGES, SOUNDS, holds_sounds, printable, read_folder
from tuplet.data.manifest import Columns, Kind, Manifest, Need
from tuplet.data.series import read_series
from tuplet.data.source_errors import HINTS, SourceErrors
from tuplet.errors import DataError, MissingFileError

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
"""Endings of tables."""
_PACKED = (".parquet", ".tar", ".arrow")
_MOST_SPLITS = 16
"""Folders in which files of a packed collection are looked for."""


def read_manifest(
    source: Path | str,
    *,
    kind: Kind | None = None,
    labels: Path | str | None = None,
    targets: Path | str | None = None,
    columns: Columns | None = None,
    needs: Collection[Need] = (),
    skip_broken: bool = False,
    as_trained: bool = False,
    metadata: bool = False,
    keep: Collection[str] = (),
    cache: Path | None = None,
) -> Manifest:
    """Reads a folder of images, a table, an array or a set of series.

    Everything is checked before it returns: one error reports all problems, with their lines.

    Args:
        source: Folder `class/file` of images or of sounds (or `train/class/file`), `.csv` or `.tsv` with a header,
            `.parquet`, `.jsonl` with an object on each line, `.npy`, `.npz`, `.ts`, folder of `.ts` files, `.txt` with
            a text on each line, or a packed collection: a folder saved by `datasets`, of Parquet files, webdataset.
        kind: What an item is, where the source leaves it open: a 2-D array holds vectors unless this says "series".
        labels: Classes of the rows of a `.npy`: `.npy`, `.csv` or `.txt`; by default `NAME.labels.*` or `labels.*`
            beside it.
        targets: Graded labels of the rows of a `.npy`; by default `NAME.targets.*` or `targets.*` beside it.
        columns: Names of the columns of a table, where they are not the usual ones.
        needs: What must be known about the examples; what is missing is a problem.
        skip_broken: Of a folder, or a table of paths, leave out the images that cannot be decoded; `Manifest.left_out`
            lists them.
        as_trained: `columns` are those of a model's table (`Manifest.columns`): its inputs must be there, in any order,
            and the rest may be missing. Where it has no names, a note says what was taken.
        cache: Folder in which packed collections are unpacked once; None unpacks for as long as the manifest is used.
        keep: Columns of a table whose cells are kept, no inputs unless `columns` says so.
        metadata: Whether to keep the cells of all that mean nothing else.

    Returns:
        One row per example, in the order of the table or of the sorted file names.

    Raises:
        DataError: The source has problems.
    """
    path, suffix = Path(source), Path(source).suffix.lower()
    is_blind, columns = as_trained and columns is None, columns or Columns()
    more: dict[str, Any] = {"as_trained": as_trained, "metadata": metadata, "skip_broken": skip_broken, "keep": keep}
    if packed := _packed(path):
        return _unpacked(path, packed, cache, kind=kind, columns=columns, needs=needs, **more)
    if path.is_dir():
        return _read_folder(path, needs, skip_broken=skip_broken)
    if not path.is_file():
        raise _missing(path)
    if suffix in TABLES:
        from tuplet.data.tables import read_table  # noqa: PLC0415  pyarrow takes a while, and images need none

        table = read_table(path, kind=kind, columns=columns, needs=needs, **more)
        return _with_order(table) if is_blind else table
    if suffix == ".txt":
        return read_lines(path)
    own = Columns() if as_trained and suffix == ".npz" else columns
    return _read_arrays(path, labels, targets, kind=kind, columns=own, needs=needs)


def _read_arrays(path: Path, labels: Path | str | None, targets: Path | str | None, **how: Any) -> Manifest:
    """One file of arrays or series."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        beside = (None if file is None else Path(file) for file in (labels, targets))
        return read_array(path, *beside, **how)
    if suffix == ".npz":
        return read_archive(path, **how)
    if suffix == ".ts":
        return read_series([path], path, needs=how["needs"])
    raise DataError(f"{path} is of no known kind.", hint=HINTS["unreadable-source"], reference="unreadable-source")


class _Scratch:
    """A folder that is removed when nobody refers to it any more."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="tuplet-"))
        self._end = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _packed(path: Path) -> list[Path]:
    """The files of a packed collection; none of another source, for which pyarrow need not be loaded."""
    entries = [path] if path.is_file() else [*path.iterdir()] if path.is_dir() else []
    folders = [entry for entry in entries if entry.is_dir()]
    if len(folders) <= _MOST_SPLITS:
        entries += [entry for folder in folders for entry in folder.iterdir()]
    if not any(entry.suffix.lower() in _PACKED for entry in entries):
        return []
    from tuplet.data.packed import packed_files  # noqa: PLC0415  pyarrow takes a while, and images need none

    return packed_files(path)


def _unpacked(path: Path, files: list[Path], cache: Path | None, **how: Any) -> Manifest:
    """A packed collection, read as the table that it is unpacked to."""
    from tuplet.data.packed import unpack  # noqa: PLC0415  the same
    from tuplet.data.tables import read_table  # noqa: PLC0415  the same

    kept = _Scratch() if cache is None else None
    table = unpack(path, files, kept.path if kept else cache or Path())
    try:
        found = read_table(table, **how)
    except DataError as problem:
        message = problem.message.replace(str(table), printable(str(path)))
        raise DataError(message, hint=problem.hint, reference=problem.reference) from problem
    return replace(found, source=printable(str(path)), kept=kept)


def _with_order(manifest: Manifest) -> Manifest:
    """With a note of the inputs that were taken, where the model does not know their names."""
    inputs = None if manifest.columns is None else manifest.columns.inputs
    if inputs is None:
        return manifest
    names = ", ".join(map(printable, inputs))
    note = f"{manifest.source}: the model does not know the names of its inputs; they are taken to be {names}."
    return replace(manifest, notes=(*manifest.notes, note))


def _read_folder(path: Path, needs: Collection[Need], *, skip_broken: bool) -> Manifest:
    series = sorted(file for file in path.glob("*.ts") if file.is_file())  # a pipe would be waited for
    if series:
        return read_series(series, path, needs=needs)
    return read_folder(path, needs=needs, skip_broken=skip_broken, medium=SOUNDS if holds_sounds(path) else IMAGES)


def _missing(path: Path) -> MissingFileError:
    message = f"{path}: no such file or folder."
    return MissingFileError(message, hint=HINTS["unreadable-source"], reference="missing-file")


def read_lines(path: Path) -> Manifest:
    """Reads a plain text file: every line that is not blank is an example.

    Raises:
        DataError: The file cannot be read, or all of it is blank.
    """
    problems = SourceErrors(str(path))
    lines = {
        number: line.strip() for number, line in enumerate(_text(path, problems).splitlines(), start=1) if line.strip()
    }
    if not lines:
        problems.add("empty-source", "there is no text in it")
    problems.raise_if_any()
    return Manifest(
        kind="text",
        ids=tuple(str(number) for number in lines),
        items=tuple(lines.values()),
        source=str(path),
        lines=tuple(lines),
    )


def _text(path: Path, problems: SourceErrors) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add("unreadable-source", f"byte {error.start} is not UTF-8 text", hint="Save the text as UTF-8.")
    except OSError as error:
        problems.add("unreadable-source", f"{error.strerror}")
    problems.raise_if_any()
    return ""
