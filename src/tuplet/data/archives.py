"""Several arrays in one file, as `numpy.savez` writes them: examples, and what is known of them."""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.arrays import encode, graded, of_rows
from tuplet.data.labels import distinct_groups, named, says_who_asks, splits_of_roles
from tuplet.data.manifest import Annotations, Columns, Kind, Manifest
from tuplet.data.source_errors import SourceErrors

_NAMES = {
    "input": r"x|inputs?|data|features?|vectors?|embeddings?|images?|series|arr_0",
    "label": r"y|labels?|class(es)?",
    "target": r"targets?",
    "id": r"ids?|names?",
    "split": r"splits?",
    "group": r"groups?",
    "role": r"roles?",
}
"""What arrays are usually called, by what they hold."""


def read_archive(path: Path, *, kind: Kind | None, columns: Columns, needs: Collection[str] = ()) -> Manifest:
    """Reads the arrays of a `.npz`; see `read_manifest`."""
    problems = SourceErrors(str(path))
    arrays = _load(path, problems)
    problems.raise_if_any()
    of = _roles(arrays, columns, problems)
    problems.raise_if_any()
    rows = arrays[of["input"]]
    labels: tuple[NDArray[np.int64] | None, tuple[str, ...]] = (None, ())
    if "label" in of:
        labels = encode(arrays[of["label"]], of["label"], problems)
    ids = _texts(arrays, of, "id")
    splits, roles = (
        None if (cells := _texts(arrays, of, what)) is None else named(cells, what, problems)
        for what in ("split", "role")
    )
    known = Annotations(
        ids=ids,
        labels=labels[0],
        class_names=labels[1],
        targets=graded(arrays[of["target"]], of["target"], problems) if "target" in of else None,
        splits=splits_of_roles(roles) if splits is None else splits,
        groups=_groups(_texts(arrays, of, "group")),
        roles=roles,
    )
    _check_counts(arrays, of, problems)
    if ids is not None and len({*ids}) < len(ids):
        problems.add("duplicate-id", f"{of['id']} holds {len(ids) - len({*ids})} names more than once")
    for name, values in ("label", known.labels), ("target", known.targets):
        if name in needs and values is None:
            problems.add("missing-column", f"there is no array '{name}s'")
    return of_rows(rows, known, path, kind=kind, problems=problems)


def _load(path: Path, problems: SourceErrors) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                found[name] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        problems.add("unreadable-source", f"this is not a complete .npz file of numbers and texts ({error})")
    return found


def _roles(arrays: Mapping[str, NDArray[Any]], columns: Columns, problems: SourceErrors) -> dict[str, str]:
    """Names of arrays by what they hold: as asked for, by what they are called, or the only one that it can be."""
    usual = Columns()
    asked = {role: getattr(columns, role) for role in ("label", "id", "split", "group", "role")}
    asked = {role: name for role, name in asked.items() if name != getattr(usual, role)}
    for role, names in ("input", columns.inputs), ("target", columns.targets):
        if names is not None:
            asked[role] = names[0] if len(names) == 1 else None
    of = {role: name for role, name in asked.items() if name is not None}
    for role, name in of.items():
        if name not in arrays:
            problems.add("missing-column", f"there is no array {name!r}, only {', '.join(arrays)}", hint=_hint(role))
    for role, pattern in _NAMES.items():
        called = [name for name in arrays if re.fullmatch(pattern, name, re.IGNORECASE) and name not in of.values()]
        called = [name for name in called if role != "role" or says_who_asks(_words(arrays[name]))]
        if role not in asked and len(called) == 1:
            of[role] = called[0]
        elif role not in asked and called:
            problems.add("unclear-arrays", f"{' and '.join(called)} may both be the {role}", hint=_hint(role))
    free = [name for name in arrays if name not in of.values()]
    if "input" not in of and len(free) == 1:
        of["input"] = free[0]
    elif "input" not in of:
        problems.add("unclear-arrays", f"which of {', '.join(arrays) or 'no arrays'} holds the examples?")
    return of


def _hint(role: str) -> str:
    if role in ("input", "target"):
        return f"Use --set \"data.columns.{role}s=['NAME']\""
    return f"Use --set data.columns.{role}=NAME"


def _texts(arrays: Mapping[str, NDArray[Any]], of: Mapping[str, str], role: str) -> tuple[str, ...] | None:
    return _words(arrays[of[role]]) if role in of else None


def _words(array: NDArray[Any]) -> tuple[str, ...]:
    values = array.reshape(-1)
    return tuple(map(str, (values.astype(np.str_) if values.dtype.kind == "S" else values).tolist()))


def _groups(cells: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if cells is None else distinct_groups(cells, [str(row) for row in range(len(cells))])


def _check_counts(arrays: Mapping[str, NDArray[Any]], of: Mapping[str, str], problems: SourceErrors) -> None:
    count = arrays[of["input"]].shape[:1]
    for role, name in of.items():
        if arrays[name].shape[:1] != count:
            text = f"{name} has shape {arrays[name].shape}, {of['input']} has {arrays[of['input']].shape}"
            problems.add("label-count", f"{text}: {role} and examples do not go together")
