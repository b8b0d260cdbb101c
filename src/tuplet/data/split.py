"""Which examples train, which choose, which judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuplet.data.manifest import Manifest


@dataclass(frozen=True)
class Leak:
    """Something that stands in two splits.

    Args:
        kind: "class": a class whose examples are in several splits; "content": identical examples in several splits.
        name: Name of the class, or id of the first example.
        splits: The splits, sorted.
        ids: Ids of the examples concerned.
    """

    kind: Literal["class", "content"]
    name: str
    splits: tuple[str, ...]
    ids: tuple[str, ...]


def split_by_class(labels: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Whole classes to each split, so that later splits hold classes never seen in training (open set)."""
    raise NotImplementedError


def split_by_row(labels: NDArray[np.int64], fractions: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Rows of each class to each split in the given proportions (closed set)."""
    raise NotImplementedError


def find_leaks(manifest: Manifest) -> list[Leak]:
    """Classes and identical examples that stand in more than one split."""
    raise NotImplementedError
