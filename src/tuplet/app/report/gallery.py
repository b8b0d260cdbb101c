"""What a run was judged on: its index, its classes and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tuplet.index import FlatIndex
from tuplet.types import GeometryName

_WIDEST = 32  # pixels; enough to tell letters apart


@dataclass(frozen=True, eq=False)
class Gallery:
    """Embedded examples.

    Args:
        embeddings: One row per example (n, dim), in float32.
        geometry: How they are compared.
        ids: Unique name of each example.
        labels: Class of each example, an index into `names`; -1 where it is unknown.
        names: Name of each class.
        pictures: uint8 images (n, channels, height, width), where the examples are images.
    """

    embeddings: Tensor
    geometry: GeometryName
    ids: Sequence[str]
    labels: NDArray[np.int64]
    names: Sequence[str]
    pictures: NDArray[np.uint8] | None = None

    def name(self, position: int) -> str:
        """Name of the class of the example at `position`."""
        label = int(self.labels[position])
        return self.names[label] if label >= 0 else "no class"

    def as_pictures(self) -> "Gallery":
        """The same examples with their pictures as embeddings: grey, at most 32 pixels wide and high, centred."""
        assert self.pictures is not None  # noqa: S101  the report asks only where there are pictures
        grey = torch.from_numpy(self.pictures.mean(1, keepdims=True, dtype=np.float32))
        if max(grey.shape[2:]) > _WIDEST:
            grey = functional.interpolate(grey, _WIDEST, mode="area")
        rows = grey.flatten(1)
        return replace(self, embeddings=rows - rows.mean(0), geometry="cosine")


def read_gallery(run: Path) -> Gallery:
    """The gallery in the folder of a run."""
    index = FlatIndex(run / "gallery")
    items: list[Mapping[str, Any]] = list(index.items)
    classes = [item.get("label") for item in items]
    names = list(dict.fromkeys(name for name in classes if name is not None))
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
    thumbnails = run / "thumbnails.npy"
    return Gallery(
        embeddings=torch.from_numpy(np.array(index.embeddings)),
        geometry=index.geometry,
        ids=[item["id"] for item in items],
        labels=np.array([numbers.get(name, -1) for name in classes], dtype=np.int64),
        names=names,
        pictures=np.load(thumbnails, mmap_mode="r", allow_pickle=False) if thumbnails.exists() else None,
    )
