"""Names of classes and splits, from text and numbers to ids."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""The class id of an example without a label."""

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    **{name: name for name in (*SPLITS, "")},
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
}


def split_name(text: str) -> str | None:
    """The split that a cell or a folder names; "" for an empty cell, None for anything else."""
    return _SPELLINGS.get(text.strip().lower())


def encode_names(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class ids for class names, in sorted order of the names; of the numbers if all names are whole numbers.

    Args:
        names: Name of each example's class; "" (and -1, among whole numbers) is an unknown one.

    Returns:
        Id of each example's class, and the name of each class.
    """
    known = {name for name in names if name}
    are_whole = all(_is_whole(name) for name in known)
    ordered = sorted(known - {str(UNKNOWN)}, key=int) if are_whole else sorted(known)
    ids = {name: label for label, name in enumerate(ordered)}
    return np.array([ids.get(name, UNKNOWN) for name in names], dtype=np.int64), tuple(ordered)


def encode_sets(cells: Sequence[str], between: str) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Class ids for sets of labels, and which labels each example has.

    Args:
        cells: Labels of each example, in any order; "" for none.
        between: What stands between two of them.

    Returns:
        Id of each example's set, the name of each set, and one column per label, in sorted order.
    """
    sets = [sorted({label.strip() for label in cell.split(between)} - {""}) for cell in cells]
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


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal() and name == str(int(name))
