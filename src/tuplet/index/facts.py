"""What is known of items."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import Dataset, Manifest
from tuplet.errors import DataError
from tuplet.index.base import Facts


def facts_of(items: Any) -> list[Facts]:
    """What a collection of items says of each of them."""
    if isinstance(items, Dataset | Manifest):
        labels = items.classes if isinstance(items, Dataset) else items.labels
        columns: dict[str, Sequence[str | None]] = {"id": items.ids}
        if labels is not None and items.class_names:
            columns["label"] = [items.class_names[label] if label >= 0 else None for label in labels.tolist()]
        if items.groups is not None:
            columns["group"] = items.groups
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{"id": str(item if isinstance(item, str | Path) else row)} for row, item in enumerate(items)]


def facts_of_collection(manifest: Manifest, names: Sequence[str]) -> list[Facts]:
    """The same with all that an index can filter by; what an item does not have is left out."""
    columns: dict[str, Sequence[Any]] = {"id": names}
    if manifest.labels is not None and manifest.class_names:
        labels = manifest.labels.tolist()
        columns["label"] = [manifest.class_names[label] if label >= 0 else None for label in labels]
    if manifest.groups is not None:
        columns["group"] = manifest.groups
    if manifest.splits is not None:
        columns["split"] = [split or None for split in manifest.splits]
    if manifest.kind == "text":
        columns["text"] = list(map(str, manifest.items))
    for name, cells in manifest.metadata.items():
        columns.setdefault(name, _numbers(cells))
    rows = zip(*columns.values(), strict=True)
    return [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]


def require_facts(facts: Sequence[Facts]) -> Sequence[Facts]:
    """Some facts, each with an `id`."""
    if not facts:
        raise DataError("There is nothing to index.", hint="Name at least one item.", reference="empty-index")
    if not all("id" in fact for fact in facts):
        raise wrong_facts("Some items have no `id`")
    return facts


def wrong_facts(what: str) -> DataError:
    """What to raise of facts that do not belong to their items."""
    hint = "Give one entry of `facts` for each item, with an `id`."
    return DataError(f"{what}.", hint=hint, reference="facts-per-item")


def _numbers(cells: Sequence[str]) -> list[str | float | None]:
    """Cells as numbers, if all that hold something hold one; empty ones as nothing."""
    try:
        found = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return [cell or None for cell in cells]
    finite = all(number is None or np.isfinite(number) for number in found)
    return list(found) if finite else [cell or None for cell in cells]
