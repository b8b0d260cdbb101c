"""Names of classes and splits, from text and numbers to ids."""

import re
from collections.abc import Sequence
from typing import Literal
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from tuplet.data.source_errors import SourceErrors
from tuplet.registry import did_you_mean

UNKNOWN = -1
"""The class id of an example without a label."""

MISSING = frozenset(
    {
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    }
)
"""Cells that say nothing: those that pandas reads as missing."""

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    **{name: name for name in (*SPLITS, "")},
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
}


ROLES = {"query": "query", "queries": "query", "probe": "query", "gallery": "gallery", "": ""}
"""How cells and folders say which are queries and which gallery."""


def role_name(text: str) -> str | None:
    """Query or gallery, as a cell or a folder names it; "" for a cell that says nothing, None for anything else."""
    return ROLES.get(plain_name(text).lower())


def named(
    cells: Sequence[str], what: Literal["split", "role"], problems: SourceErrors, lines: Sequence[int] | None = None
) -> tuple[str, ...]:
    """Splits or roles as cells name them; other words are problems, of a line or of a row counted from 0."""
    names = [split_name(cell) if what == "split" else role_name(cell) for cell in cells]
    for row, (name, cell) in enumerate(zip(names, cells, strict=True)):
        if name is None:
            where, line = (f" of row {row}", 0) if lines is None else ("", lines[row])
            hint = did_you_mean(cell, [*SPLITS]) if what == "split" else ""
            problems.add(f"unknown-{what}", f"the {what}{where} is {cell!r}", line=line, hint=hint)
    return tuple(name or "" for name in names)


def says_who_asks(cells: Sequence[str]) -> bool:
    """Whether some cells are query and gallery, and nothing else."""
    names = {role_name(cell) for cell in cells}
    return {"query", "gallery"} <= names <= {"query", "gallery", ""}


def splits_of_roles(roles: Sequence[str] | None) -> tuple[str, ...] | None:
    """Where no split is given: which are queries and which gallery is evaluated, the rest trains."""
    return None if roles is None else tuple("test" if role else "train" for role in roles)


def split_name(text: str) -> str | None:
    """The split that a cell or a folder names; "" for a cell that says nothing, None for anything else."""
    return _SPELLINGS.get(plain_name(text).lower())


def plain_name(text: str) -> str:
    """A name as all its spellings share it, "" for one that is missing.

    Letters with accents are composed (Unicode form NFC), and whole numbers carry no ".0", which pandas adds to a column
    as soon as one of its cells is empty.
    """
    name = normalize("NFC", text.strip())
    return "" if name in MISSING else re.sub(r"^(-?[0-9]+)\.0+$", r"\1", name)


def encode_names(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class ids for class names, in sorted order of the names; of the numbers if all names are whole numbers.

    Args:
        names: Name of each example's class, compared as `plain_name` writes it; a missing one (and -1, among whole
            numbers) is an unknown class.

    Returns:
        Id of each example's class, and the name of each class.
    """
    plain = {name: plain_name(name) for name in set(names)}
    known = {*plain.values()} - {""}
    are_whole = all(_is_whole(name) for name in known)
    ordered = sorted(known - {str(UNKNOWN)}, key=int) if are_whole else sorted(known)
    places = {name: label for label, name in enumerate(ordered)}
    ids = {name: places.get(spelled, UNKNOWN) for name, spelled in plain.items()}
    return np.array([ids[name] for name in names], dtype=np.int64), tuple(ordered)


def encode_sets(cells: Sequence[str], between: str) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Class ids for sets of labels, and which labels each example has.

    Args:
        cells: Labels of each example, in any order; those that are missing do not count.
        between: What stands between two of them.

    Returns:
        Id of each example's set, the name of each set, and one column per label, in sorted order.
    """
    sets = [sorted({plain_name(label) for label in cell.split(between)} - {""}) for cell in cells]
    ids, names = encode_names([between.join(labels) for labels in sets])
    places = {label: place for place, label in enumerate(sorted(set().union(*sets)))}
    has = np.zeros((len(sets), len(places)), dtype=np.bool_)
    for row, labels in enumerate(sets):
        has[row, [places[label] for label in labels]] = True
    return ids, names, has


def encode_numbers(values: NDArray[np.integer]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class ids for whole numbers of any size, in ascending order; -1 is an unknown class."""
    known, ids = np.unique(values, return_inverse=True)
    labels = ids.reshape(-1).astype(np.int64)
    first = int(np.searchsorted(known, UNKNOWN)) if values.dtype.kind == "i" else len(known)
    if first < len(known) and known[first] == UNKNOWN:
        labels = np.where(labels == first, UNKNOWN, labels - (labels > first))
        known = np.delete(known, first)
    return labels, tuple(str(value) for value in known.tolist())


def distinct_groups(names: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The group of each example; one whose group is missing is alone in a group of its own.

    Args:
        names: As read.
        ids: Unique names of the examples.
    """
    plain = [plain_name(name) for name in names]
    return tuple(name or f"(only {one})" for name, one in zip(plain, ids, strict=True))


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", name) is not None and name == str(int(name))
