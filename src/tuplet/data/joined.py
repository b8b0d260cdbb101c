"""Several sources as one data set: classes of one name are one class, and names of examples say where they are from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data.labels import UNKNOWN
from tuplet.data.manifest import Manifest
from tuplet.errors import DataError

_SHARED = ("kind", "pair_kind")


def join(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest of several.

    Args:
        manifests: Of the same kind; what one of them knows of its examples (classes, splits, targets, pairs), all know.

    Returns:
        Their examples one source after the other. `sources` says which; ids begin with the name of the source.

    Raises:
        DataError: They do not fit together.
    """
    if len(manifests) == 1:
        return manifests[0]
    first = manifests[0]
    names = _names(manifests)
    for other in manifests[1:]:
        _require_alike(first, other)
    groups = None
    if any(one.groups is not None for one in manifests):
        groups = tuple(
            f"{name}/{group}"
            for name, one in zip(names, manifests, strict=True)
            for group in (one.groups if one.groups is not None else one.ids)
        )
    labels, classes = _classes(manifests)
    return Manifest(
        kind=first.kind,
        ids=tuple(f"{name}/{known}" for name, one in zip(names, manifests, strict=True) for known in one.ids),
        items=_items([one.items for one in manifests], [one.source for one in manifests]),
        labels=labels,
        class_names=classes,
        targets=None if first.targets is None else np.concatenate([one.targets for one in manifests]),
        pairs=None
        if first.pairs is None
        else _items([one.pairs for one in manifests], [one.source for one in manifests]),
        pair_kind=first.pair_kind,
        splits=_chained(manifests, "splits"),
        groups=groups,
        roles=_chained(manifests, "roles"),
        source=" + ".join(one.source for one in manifests),
        columns=first.columns,
        unread=first.unread,
        metadata=_cells(manifests),
        left_out=tuple(entry for one in manifests for entry in one.left_out),
        notes=tuple(note for one in manifests for note in one.notes),
        kept=tuple(one.kept for one in manifests),
        sources=np.repeat(np.arange(len(manifests)), [len(one) for one in manifests]),
    )


def _names(manifests: Sequence[Manifest]) -> list[str]:
    """A short name of each source, no two of them alike."""
    found: list[str] = []
    for one in manifests:
        name = Path(one.source).stem
        alike = sum(known == name or known.startswith(f"{name}-") for known in found)
        found.append(f"{name}-{alike + 1}" if alike else name)
    return found


def _require_alike(first: Manifest, other: Manifest) -> None:
    parts = ("labels", "label_sets", "targets", "pairs", "splits")
    known = {key: (getattr(first, key) is not None, getattr(other, key) is not None) for key in parts}
    differ = [key.replace("_", " ") for key, (mine, theirs) in known.items() if mine != theirs]
    if any(getattr(first, key) != getattr(other, key) for key in _SHARED):
        why = f"{first.source} holds {first.kind}, {other.source} {other.kind}"
    elif differ:
        having, lacking = (first, other) if known[differ[0].replace(" ", "_")][0] else (other, first)
        why = f"{having.source} has {', '.join(differ)}, and {lacking.source} has none"
    elif first.label_sets is not None:
        why = "examples with several labels come from one source"
    else:
        return
    raise DataError(
        f"Two sources do not fit together: {why}.",
        hint="Give both the same columns, or train on one of them.",
        reference="sources-differ",
    )


def _classes(manifests: Sequence[Manifest]) -> tuple[Any, tuple[str, ...]]:
    """Class ids of all examples, and the names of the classes: those of one name are one."""
    if manifests[0].labels is None:
        return None, ()
    names = sorted({name for one in manifests for name in one.class_names})
    place = {name: at for at, name in enumerate(names)}
    parts = []
    for one in manifests:
        new = np.array([*(place[name] for name in one.class_names), UNKNOWN], dtype=np.int64)
        parts.append(new[one.labels])  # -1 is the last
    return np.concatenate(parts), tuple(names)


def _items(parts: Sequence[Any], sources: Sequence[str]) -> Any:
    """Items of all sources: one array where they are arrays of one shape, else a tuple."""
    shapes = {part.shape[1:] if isinstance(part, np.ndarray) else None for part in parts}
    if shapes == {None}:
        return tuple(item for part in parts for item in part)
    if len(shapes) == 1:
        return np.concatenate([np.asarray(part) for part in parts])
    ranks = {len(shape) for shape in shapes if shape is not None}
    if ranks == {2}:  # series of unequal length
        return tuple(item for part in parts for item in part)
    raise DataError(
        f"Two sources do not fit together: examples of {' and '.join(sources)} are of other shapes.",
        hint="Give both the same columns, or train on one of them.",
        reference="sources-differ",
    )


def _cells(manifests: Sequence[Manifest]) -> dict[str, tuple[str, ...]]:
    """Cells that all sources keep."""
    names = [name for name in manifests[0].metadata if all(name in one.metadata for one in manifests)]
    return {name: tuple(cell for one in manifests for cell in one.metadata[name]) for name in names}


def _chained(manifests: Sequence[Manifest], key: str) -> tuple[str, ...] | None:
    """What each example is called by a key; "" where a source does not say, None where none does."""
    if all(getattr(one, key) is None for one in manifests):
        return None
    return tuple(name for one in manifests for name in (getattr(one, key) or ("",) * len(one)))
