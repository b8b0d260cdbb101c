"""A recipe for data that nobody has written one for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuplet.data import Manifest
from tuplet.data.split import find_leaks
from tuplet.errors import DataError
from tuplet.recipes.build import read_data
from tuplet.recipes.divide import divide
from tuplet.recipes.load import Document, complete, merged, read_document
from tuplet.recipes.schema import Recipe, Split

PRESETS = {"image": "own-images", "vector": "own-vectors", "series": "own-series", "text": "own-texts"}
OPEN_FROM = 20
"""Fewer classes than this are too few to learn what makes unseen ones differ."""
BATCH = 128
"""Examples of a proposed batch."""
PASSED = 120_000_000
"""Bytes of plain text, about 20 million words, that a training of word vectors should see in all."""
LARGEST, SMALLEST = 64, 16
"""Height and width of proposed images, in pixels."""
LOOKED_AT = 20
"""Images that are looked at to propose a size."""


def recipe_for(source: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The preset for the kind of the data, fitted to the number and size of its classes.

    Args:
        source: Folder, table or array; plain text asks for word vectors.
        overrides: As for `load_recipe`; they come last.

    Raises:
        DataError: If the data cannot be read, or has no classes.
        RecipeError: If an override makes no sense.
    """
    data: Document = {"data": {"source": str(source.resolve())}}
    if _is_text(source):
        words: Document = {"train": {"epochs": _epochs(source)}}
        document = merged(merged(read_document("words"), data), words)
        return complete(document, overrides, name=source.stem, origin=str(source))
    naive = complete(merged(read_document("own-vectors"), data), overrides, name=source.stem, origin=str(source))
    manifest = read_data(naive.data, Path())
    if manifest.labels is None:
        raise DataError(
            f"{source} names no classes.",
            hint="Add a column label, one folder per class, or a file NAME.labels.npy; or write a recipe.",
            reference="missing-labels",
        )
    document = merged(merged(read_document(PRESETS[manifest.kind]), data), _fitted(manifest))
    return complete(document, overrides, name=source.stem, origin=str(source))


def _is_text(source: Path) -> bool:
    """Plain text, or a folder of nothing else; `.txt` files inside folders may be what is said of images."""
    if source.is_dir():
        return all(entry.suffix == ".txt" for entry in source.iterdir()) and any(source.iterdir())
    return source.suffix == ".txt"


def _epochs(source: Path) -> int:
    """More passes over a small text, so that each word is met often enough."""
    files = source.glob("*.txt") if source.is_dir() else [source]
    return int(np.clip(PASSED // max(1, sum(file.stat().st_size for file in files)), 4, 50))


def _fitted(manifest: Manifest) -> Document:
    """Split, batch and image size that suit the data."""
    split, train = _split(manifest)
    sizes = _classes(train)
    per_class = int(np.clip(np.median(sizes), 2, 8 if split.by == "class" else 16))
    classes = max(1, min(int((sizes >= 2).sum()), BATCH // per_class))
    fitted: Document = {
        "data": {"split": {"by": split.by, "test": split.test, "validation": split.validation}},
        "batch": {"name": "per-class", "classes_per_batch": classes, "per_class": per_class},
    }
    if manifest.kind == "image":
        fitted["model"] = {"preprocessing": {"name": "image", **_shape(manifest)}}
    return fitted


def _split(manifest: Manifest) -> tuple[Split, Manifest]:
    """By class if there are many, else by row; the smaller the data, the larger the share that judges."""
    if manifest.splits is not None:
        is_open = not any(leak.kind == "class" for leak in find_leaks(manifest))
    else:
        is_open = len(_classes(manifest)) >= OPEN_FROM
    by: Literal["class", "row"] = "class" if is_open else "row"
    for test, validation in ((0.3, 0.15), (0.4, 0.3)):
        split = Split(by=by, test=test, validation=validation)
        try:
            return split, divide(manifest, split)["train"]
        except DataError as error:
            if error.reference not in {"split-too-small", "too-few-to-split"}:
                raise
    split = Split(by=by, test=0.5, validation=0.0)
    return split, divide(manifest, split)["train"]


def _classes(manifest: Manifest) -> NDArray[np.int64]:
    """Examples of each class."""
    labels = np.zeros(0, np.int64) if manifest.labels is None else manifest.labels
    return np.unique(labels[labels >= 0], return_counts=True)[1]


def _shape(manifest: Manifest) -> dict[str, int]:
    """Size and channels of the first images, within what trains in minutes."""
    if isinstance(manifest.items, np.ndarray):
        height, channels = max(manifest.items.shape[2:]), manifest.items.shape[1]
    else:
        seen = [_look(item) for item in manifest.items[:LOOKED_AT] if isinstance(item, Path)]
        height, channels = int(np.median([side for side, _ in seen])), max(channels for _, channels in seen)
    return {"size": int(np.clip(height, SMALLEST, LARGEST)), "channels": channels}


def _look(path: Path) -> tuple[int, int]:
    """Shorter side and channels of an image file, from its head."""
    try:
        with Image.open(path) as image:
            return min(image.size), 1 if image.mode in {"1", "L", "I;16"} else 3
    except OSError:  # loading reports broken images, all of them at once
        return SMALLEST, 1
