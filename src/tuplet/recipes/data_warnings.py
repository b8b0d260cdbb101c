"""What may be wrong with data though it can be read."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuplet.data import Manifest
from tuplet.data.manifest import rare_classes
from tuplet.data.split import find_leaks
from tuplet.errors import counted

OPEN_FROM = 20
"""Fewer classes than this are too few to learn what makes unseen ones differ."""
FEW_TRAINING_CLASSES = 10
"""Training classes that are so few that long training on them makes unseen ones worse."""
CONTINUOUS_FROM = 10
"""Fewer different numbers than this are names of classes, whatever they look like."""


def class_sizes(manifest: Manifest) -> NDArray[np.int64]:
    """Examples of each class that has any."""
    labels = np.zeros(0, np.int64) if manifest.labels is None else manifest.labels
    return np.unique(labels[labels >= 0], return_counts=True)[1]


def classes_of(part: Manifest) -> set[int]:
    """Ids of the classes that have an example."""
    return set() if part.labels is None else set(part.labels[part.labels >= 0].tolist())


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


def data_warnings(manifest: Manifest, parts: Mapping[str, Manifest], by: str, per_class: int | None) -> list[str]:
    """A sentence for each thing about the data that makes a training worse than it could be, or its evaluation invalid.

    Args:
        manifest: All of the data.
        parts: The same, divided.
        by: "class" or "row": what the splits share.
        per_class: Examples of a class that a batch asks for; None if it asks for none.
    """
    found = []
    train, sizes = parts["train"], class_sizes(parts["train"])
    if per_class is not None:
        found += _class_warnings(train, sizes, per_class)
    if by == "class" and manifest.related is None and 0 < len(sizes) < FEW_TRAINING_CLASSES:
        found.append(
            f"Training has {counted(len(sizes), 'class', 'classes')}, but tests unseen ones: fewer "
            f"than {FEW_TRAINING_CLASSES} generalise poorly, and long training overfits. If new examples of known "
            f"classes matter: --set data.split.by=row"
        )
    if looks_continuous(manifest):
        found.append(
            f"The {len(manifest.class_names)} classes look like measurements ({', '.join(manifest.class_names[:3])}, "
            f"...). As classes they have no order; call the column target, and use the loss "
            f"log_ratio."
        )
    if by == "row" and manifest.splits is not None:
        found += _strangers(parts)
    return found + _copies(manifest, parts)


def _class_warnings(train: Manifest, sizes: NDArray[np.int64], per_class: int) -> list[str]:
    found = []
    if alone := rare_classes(train):
        found.append(
            f"{counted(len(alone), 'class has', 'classes have')} a single training example, and {_are(len(alone))} "
            f"left out of batches of pairs: {some(alone)}."
        )
    short = int(((sizes >= 2) & (sizes < per_class)).sum())
    if short:
        found.append(
            f"{counted(short, 'class has', 'classes have')} fewer than the {per_class} examples that a batch takes of "
            f"each class: some appear in a batch twice. To avoid that: --set batch.per_class={max(2, sizes.min())}"
        )
    return found


def _copies(manifest: Manifest, parts: Mapping[str, Manifest]) -> list[str]:
    """What appears in two splits; classes that do were refused, where splits should share none."""
    split_of = {name: split for split, part in parts.items() for name in part.ids}
    divided = replace(manifest, splits=tuple(split_of.get(name, "") for name in manifest.ids))
    copies = [" = ".join(leak.ids[:2]) for leak in find_leaks(divided) if leak.kind == "content"]
    if not copies:
        return []
    count = counted(len(copies), "example appears", "examples appear")
    return [f"{count} in two splits: {some(copies)}. Duplicates inflate the result: delete them."]


def _strangers(parts: Mapping[str, Manifest]) -> list[str]:
    """Test classes that training does not know while it knows others: the splits may be meant to share none."""
    train, test = parts["train"], parts.get("test")
    known, asked = classes_of(train), classes_of(test) if test else set[int]()
    strange, shared = sorted(asked - known), sorted(asked & known)
    if not strange or not shared:
        return []
    unseen, names = ([train.class_names[label] for label in labels] for labels in (strange, shared))
    count = counted(len(asked), "class", "classes")
    seen = f"The test split shares {some(names)} with training, and {len(unseen)} of its {count} {_are(len(unseen))}"
    return [
        f"{seen} unseen there: {some(unseen)}. Give a class to one split and --set data.split.by=class, or to both."
    ]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def some(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    """The first of some names."""
    return ", ".join(map(repr, names[:most])) + ", ..." * (len(names) > most)
