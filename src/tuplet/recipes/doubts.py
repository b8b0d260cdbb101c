"""What may be wrong with data though it can be read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data import Manifest
from tuplet.data.manifest import rare_classes
from tuplet.data.split import find_leaks

OPEN_FROM = 20
"""Fewer classes than this are too few to learn what makes unseen ones differ."""
CONTINUOUS_FROM = 10
"""Fewer different numbers than this are names of classes, whatever they look like."""


def class_sizes(manifest: Manifest) -> NDArray[np.int64]:
    """Examples of each class that has any."""
    labels = np.zeros(0, np.int64) if manifest.labels is None else manifest.labels
    return np.unique(labels[labels >= 0], return_counts=True)[1]


def looks_continuous(manifest: Manifest) -> bool:
    """Whether the names of the classes are measurements: many numbers, with fractions or hardly ever twice the same."""
    names = manifest.class_names
    if len(names) < CONTINUOUS_FROM or manifest.labels is None:
        return False
    try:
        numbers = np.array([float(name) for name in names])
    except ValueError:
        return False
    return bool((numbers % 1 != 0).any()) or 2 * len(names) > len(manifest)


def data_doubts(manifest: Manifest, parts: Mapping[str, Manifest], by: str, per_class: int | None) -> list[str]:
    """A sentence for each thing about the data that makes a training worse than it could be, or its verdict untrue.

    Args:
        manifest: All of the data.
        parts: The same, divided.
        by: "class" or "row": what the splits share.
        per_class: Examples of a class that a batch asks for; None if it asks for none.
    """
    found = []
    train, sizes = parts["train"], class_sizes(parts["train"])
    if per_class is not None:
        found += _class_doubts(train, sizes, per_class)
    if by == "class" and 0 < len(sizes) < OPEN_FROM:
        found.append(
            f"Training holds {len(sizes)} classes: fewer than {OPEN_FROM} teach little about unseen ones, and long "
            f"training on them makes unseen ones worse. If new examples of known classes matter: "
            f"--set data.split.by=row"
        )
    if looks_continuous(manifest):
        found.append(
            f"The {len(manifest.class_names)} classes look like measurements ({', '.join(manifest.class_names[:3])}, "
            f"...). As classes, near ones are as different as far ones; call the column target, and use the loss "
            f"log_ratio."
        )
    return found + _leak_doubts(parts, by)


def _class_doubts(train: Manifest, sizes: NDArray[np.int64], per_class: int) -> list[str]:
    found = []
    if alone := rare_classes(train):
        found.append(
            f"{_count(len(alone), 'class has', 'classes have')} a single training example, and {_are(len(alone))} left "
            f"out of batches of pairs: {_some(alone)}."
        )
    short = int(((sizes >= 2) & (sizes < per_class)).sum())
    if short:
        found.append(
            f"{_count(short, 'class has', 'classes have')} fewer than the {per_class} examples that a batch takes of "
            f"each class: some stand in a batch twice. To avoid that: --set batch.per_class={max(2, sizes.min())}"
        )
    return found


def _leak_doubts(parts: Mapping[str, Manifest], by: str) -> list[str]:
    """What stands in two splits though it should stand in one."""
    found = []
    names = [name for name, part in parts.items() for _ in range(len(part))]
    leaks = find_leaks(_joined(parts, names))
    classes = [leak.name for leak in leaks if leak.kind == "class"]
    if by == "class" and classes:
        found.append(f"{_count(len(classes), 'class stands', 'classes stand')} in two splits: {_some(classes)}.")
    copies = [leak for leak in leaks if leak.kind == "content"]
    if copies:
        ids = [" = ".join(leak.ids[:2]) for leak in copies]
        found.append(
            f"{_count(len(copies), 'example stands', 'examples stand')} in two splits, bit for bit: {_some(ids)}. "
            f"What was trained on is easy to find; delete the copies, or give them one split."
        )
    return found


def _joined(parts: Mapping[str, Manifest], names: list[str]) -> Manifest:
    """The parts as one, with the splits that they are."""
    each = list(parts.values())
    first = each[0]
    items: Any = [item for part in each for item in part.items]
    pairs: Any = None if first.pairs is None else [item for part in each for item in part.pairs or ()]
    return replace(
        first,
        ids=tuple(name for part in each for name in part.ids),
        items=tuple(items),
        pairs=None if pairs is None else tuple(pairs),
        labels=None
        if first.labels is None
        else np.concatenate([part.labels for part in each if part.labels is not None]),
        splits=tuple(names),
        label_sets=None,
        targets=None,
        groups=None,
        lines=None,
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _some(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    return ", ".join(map(repr, names[:most])) + ", ..." * (len(names) > most)
