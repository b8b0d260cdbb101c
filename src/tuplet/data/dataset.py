"""Decoded examples in memory, and what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuplet.data.manifest import Kind, Manifest
from tuplet.types import Supervision

Inputs = Tensor | list[Tensor] | list[str]
"""Stored examples: uint8 images (n, c, h, w), float rows (n, d), series (n, c, t), or a list where lengths differ."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known about each example.

    Args:
        supervision: What `values` mean.
        values: Class ids or positions (n,) in int64, or graded values (n, t) in float64.
    """

    supervision: Supervision
    values: Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples as they are stored in memory, decoded once.

    Args:
        kind: What an input is.
        inputs: Stored form of the examples, see `Inputs`.
        ids: Unique name of each example.
        labels: What is known about each example.
        class_names: Name of each class.
        groups: What else an example belongs to.
        partners: Second input of each example, where examples are pairs.
    """

    kind: Kind
    inputs: Inputs
    ids: tuple[str, ...]
    labels: Labels
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    partners: Inputs | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        return self.inputs[position], position


def load_dataset(manifest: Manifest, preprocessing: Any, supervision: Supervision | None = None) -> Dataset:
    """Decodes every item of a manifest once.

    Args:
        manifest: What to decode.
        preprocessing: Decides the stored form; see `tuplet.data.transforms`.
        supervision: Which labels the data set carries; by default classes, else graded labels, else pairs, else positions.

    Returns:
        The examples in the order of the manifest.

    Raises:
        DataError: Files that cannot be decoded, all of them in one report.
    """
    raise NotImplementedError


def labels_of(manifest: Manifest, supervision: Supervision | None = None) -> Labels:
    """The labels of a manifest that fit a kind of supervision; the default is that of `load_dataset`."""
    raise NotImplementedError


def take(inputs: Inputs, positions: Tensor | Sequence[int]) -> Inputs:
    """The stored examples at `positions`."""
    raise NotImplementedError
