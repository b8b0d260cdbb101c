"""The split into training, validation and test examples."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tuplet.data.blocks import blocks_of
from tuplet.data.hashing import digests
from tuplet.data.labels import SPLITS, UNKNOWN
from tuplet.data.manifest import Manifest
from tuplet.errors import DataError, SplitSizeError
from tuplet.seeding import derive


@dataclass(frozen=True)
class Leak:
    """Something that appears in two splits.

    Args:
        kind: "class": a class with examples in several splits; "content": identical examples in several splits.
        name: Name of the class, or id of the first example.
        splits: The splits, sorted.
        ids: Ids of the examples, in the order of the manifest.
    """

    kind: Literal["class", "content"]
    name: str
    splits: tuple[str, ...]
    ids: tuple[str, ...]


def shared_by(manifest: Manifest, wanted: Literal["class", "row"]) -> Literal["class", "row"]:
    """What the splits of some data differ in: whole classes, if that is wanted and it has some, else examples."""
    return wanted if wanted == "row" or units_of(manifest) is not None else "row"


def units_of(manifest: Manifest) -> NDArray[np.int64] | None:
    """What a split by class keeps whole: what a relation holds together, or else classes; -1 is of none of them.

    None if there is nothing of the kind.
    """
    blocks = _blocks(manifest)
    return manifest.labels if blocks is None else blocks


def holds_together(manifest: Manifest) -> bool:
    """Whether it is a relation that says what a split by class keeps whole, so that it parts no positive pair."""
    return _blocks(manifest) is not None


def _blocks(manifest: Manifest) -> NDArray[np.int64] | None:
    related = manifest.related
    return None if related is None or related.statement.is_distance else blocks_of(related)


def count_units(manifest: Manifest) -> int:
    """How many of these there are."""
    units = units_of(manifest)
    return 0 if units is None else len(np.unique(units[units != UNKNOWN]))


def split_by_class(labels: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Whole classes to each split, so that one split holds no class of another (open set).

    Args:
        labels: Class id of each example. Examples of unknown class (-1) go to the first split.
        fractions: Share of the classes of each split; they add up to 1. None stays without a class.
        seed: Seed of the run.

    Raises:
        DataError: The shares make no sense, or there are fewer classes than splits.
    """
    names, shares = _checked(fractions)
    classes = np.unique(labels[labels != UNKNOWN])
    if len(classes) < len(names):
        raise _too_few(len(classes), "classes", names)
    order = torch.randperm(len(classes), generator=derive(seed, "split")).numpy()
    split_of_class = np.empty(len(classes), np.int64)
    split_of_class[order] = np.repeat(np.arange(len(names)), _apportion(len(classes), shares))
    place = np.searchsorted(classes, labels)
    return tuple(
        names[split_of_class[at]] if label != UNKNOWN else names[0]
        for at, label in zip(place.tolist(), labels.tolist(), strict=True)
    )


def split_by_row(labels: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Rows of each class to each split, in proportion (closed set); unknown labels count as one class.

    Args:
        labels: Class id of each example.
        fractions: Share of the rows of each split; they add up to 1.
        seed: Seed of the run.

    Raises:
        DataError: The shares make no sense, or a split stays empty.
    """
    names, shares = _checked(fractions)
    generator = derive(seed, "split")
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((torch.rand(len(labels), generator=generator).numpy(), classes))  # classes apart, each shuffled
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Row r of m stands at (r + offset) / m; the offset, one per class, decides who gets what does not divide evenly.
    offset = torch.rand(len(counts), generator=generator, dtype=torch.float64).numpy()
    found = np.searchsorted(np.cumsum(shares)[:-1], (rank + offset[classes]) / counts[classes], side="right")
    if len(np.unique(found)) < len(names):
        raise _too_few(len(labels), "rows", names)
    return tuple(names[at] for at in found.tolist())


def find_leaks(manifest: Manifest, *, contents: bool = True) -> list[Leak]:
    """Classes, then identical examples, that stand in more than one split.

    A class in two splits is a leak only if the splits are meant to hold different classes. Where a relation says what
    belongs together, that takes the place of classes, and its first example names it.

    Args:
        manifest: Its splits are those that the source names, or that were drawn; without any there is no leak.
        contents: Also compare the examples themselves, which reads all of them.

    Returns:
        Leaks of each kind in the order of their first example.
    """
    if manifest.splits is None:
        return []
    units = units_of(manifest)
    labels = [] if units is None else units.tolist()
    names = _first_ids(manifest, labels) if holds_together(manifest) else manifest.class_names
    classes = [None if label == UNKNOWN else names[label] for label in labels]
    return [
        *(Leak("class", str(name), *rest) for name, rest in _across(classes, manifest)),
        *(Leak("content", rest[1][0], *rest) for _, rest in _across(_contents(manifest) if contents else (), manifest)),
    ]


def _first_ids(manifest: Manifest, units: Sequence[int]) -> Mapping[int, str]:
    """The id of the first example of each unit."""
    return dict(zip(reversed(units), reversed(manifest.ids), strict=True))


def _across(
    keys: Sequence[Hashable], manifest: Manifest
) -> Iterator[tuple[Hashable, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Keys that examples of several splits share, with these splits and the ids of the examples."""
    rows: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None and manifest.splits and manifest.splits[row]:
            rows.setdefault(key, []).append(row)
    for key, found in rows.items():
        splits = {(manifest.splits or ())[row] for row in found}
        if len(splits) > 1:
            yield key, (tuple(sorted(splits)), tuple(manifest.ids[row] for row in found))


def _contents(manifest: Manifest) -> list[Hashable]:
    """Something equal for examples that are equal, on both sides if they are pairs."""
    return [*zip(*(digests(side) for side in (manifest.items, manifest.pairs) if side is not None), strict=True)]


def _checked(fractions: Mapping[str, float]) -> tuple[list[str], NDArray[np.float64]]:
    """Names and shares of the splits that get anything, in the order train, validation, test."""
    names = [name for name in SPLITS if fractions.get(name, 0) > 0]
    shares = np.array([fractions[name] for name in names])
    if set(fractions) - set(SPLITS) or any(share < 0 for share in fractions.values()) or abs(shares.sum() - 1) > 1e-6:
        raise DataError(
            f"The shares {dict(fractions)} do not divide the data.",
            hint="Give train, validation and test shares from 0 to 1 that add up to 1.",
            reference="split-shares",
        )
    return names, shares


def _apportion(total: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers that add up to `total`, close to the shares and at least 1 (largest remainder)."""
    spare = total - len(shares)
    wanted = np.maximum(shares * total - 1, 0)
    wanted *= spare / max(wanted.sum(), 1e-12)
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    order = np.argsort(counts - wanted, kind="stable")
    counts[order[: spare - counts.sum()]] += 1
    return counts + 1


def _too_few(count: int, what: str, names: Sequence[str]) -> SplitSizeError:
    return SplitSizeError(
        f"{count} {what} are too few for the splits {', '.join(names)}: each needs at least one.",
        hint="Add examples, or use fewer splits.",
        reference="too-few-to-split",
    )
