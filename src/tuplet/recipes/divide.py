"""Which examples train, which choose the best step, which judge."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tuplet.data import Manifest
from tuplet.data.split import find_leaks, split_by_class, split_by_row
from tuplet.errors import DataError, counted
from tuplet.recipes.doubts import class_sizes
from tuplet.recipes.schema import Split


def divide(manifest: Manifest, split: Split) -> Mapping[str, Manifest]:
    """The parts of a data set by name: train, and validation and test where they hold something.

    The splits that the data names come first; what they leave open is drawn: a part of the training examples for
    validation if none is named.

    Raises:
        DataError: If nothing is left to train on, a class stands in two splits that should share none, or a split is
            too small to judge by.
    """
    has_given = split.given and manifest.splits is not None
    if has_given:
        parts = {name: manifest.part(name) for name in ("train", "validation", "test")}
    else:
        parts = _draw(manifest, split, "test", split.test)
    if not parts.get("validation"):
        parts |= _draw(parts["train"], split, "validation", split.validation)
    if not len(parts["train"]):
        raise DataError(
            f"{manifest.source} leaves no example to train on.",
            hint='Say "train" in its split column, or draw the splits with `--set data.split.given=false`.',
            reference="empty-split",
        )
    if has_given and split.by == "class":
        _refuse_leaks(manifest)
    for name in ("validation", "test"):
        _require_two_classes(manifest, name, parts[name], split.by)
    return {name: part for name, part in parts.items() if len(part)}


def _draw(manifest: Manifest, split: Split, name: str, share: float) -> dict[str, Manifest]:
    """Some of the classes, or rows, under `name`; the rest trains."""
    draw = split_by_class if split.by == "class" and manifest.labels is not None else split_by_row
    labels: NDArray[np.int64] = np.zeros(len(manifest), np.int64) if manifest.labels is None else manifest.labels
    drawn = np.array(draw(labels, {"train": 1 - share, name: share}, split.seed) if share else ["train"] * len(labels))
    return {part: manifest.take(np.flatnonzero(drawn == part)) for part in ("train", name)}


def _require_two_classes(manifest: Manifest, name: str, part: Manifest, by: str) -> None:
    """With one class every neighbour is right, and an example that is alone in its class has nothing to find."""
    if part.labels is None or not len(part):
        return
    _, counts = np.unique(part.labels[part.labels >= 0], return_counts=True)
    if len(counts) >= 2 and counts.max() >= 2:
        return
    if len(sizes := class_sizes(manifest)) and sizes.max() == 1:
        raise DataError(
            f"No class of {manifest.source} has two examples, so there is no pair to learn from or to judge by.",
            hint="Check which column or folder names the class (--set data.columns.label=NAME), or train without "
            f"judging: --set data.split.{name}=0.0",
            reference="no-class-has-two",
        )
    held = f"{counted(len(part), 'example', 'examples')} of {counted(len(counts), 'class', 'classes')}"
    raise DataError(
        f"The {name} split of {part.source} holds {held}; to judge by it takes two classes, one of them with two "
        f"examples.",
        hint=f"Make it larger, say --set data.split.{name}=0.4, or set it to 0.0."
        + " If there are few classes in all: --set data.split.by=row" * (by == "class"),
        reference="split-too-small",
    )


def _refuse_leaks(manifest: Manifest) -> None:
    leaks = find_leaks(manifest, contents=False)
    if not leaks:
        return
    what = counted(len(leaks), "class", "classes")
    shown = ", ".join(f"{leak.name!r} ({' and '.join(leak.splits)})" for leak in leaks[:5])
    raise DataError(
        f"{manifest.source} puts {what} into more than one split: {shown}{', ...' * (len(leaks) > 5)}.",
        hint="Give each class one split. If all splits are meant to hold all classes: --set data.split.by=row",
        reference="class-in-two-splits",
    )
