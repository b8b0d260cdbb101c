"""What a run was evaluated on: its index, its classes and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tuplet.index import FlatIndex
from tuplet.index.flat import OUTLINES, THUMBNAILS
from tuplet.types import GeometryName

_WIDEST = 32  # pixels; enough to tell letters apart
_LONGEST = 160  # letters of a text that is shown


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
        outlines: Series of equal length (n, channels, steps), where the examples are series.
        texts: Where the examples are texts.
        targets: Graded values (n, t), where there are any.
    """

    embeddings: Tensor
    geometry: GeometryName
    ids: Sequence[str]
    labels: NDArray[np.int64]
    names: Sequence[str]
    pictures: NDArray[np.uint8] | None = None
    outlines: NDArray[np.float16] | None = None
    texts: Sequence[str] | None = None
    targets: NDArray[np.float64] | None = None

    def name(self, position: int) -> str:
        """Name of the class of the example at `position`; without classes, its targets."""
        label = int(self.labels[position])
        if label >= 0:
            return self.names[label]
        return "no class" if self.names else self.target(position)

    def target(self, position: int) -> str:
        """The graded values at `position`; empty where there are none."""
        return "" if self.targets is None else ", ".join(f"{value:.4g}" for value in self.targets[position].tolist())

    def text(self, position: int) -> str:
        """The text at `position`, cut to what can be shown; empty where there are none."""
        return "" if self.texts is None else shortened(self.texts[position])

    def as_pictures(self) -> "Gallery":
        """The same examples with their pictures as embeddings: grey, at most 32 pixels wide and high, centred."""
        assert self.pictures is not None  # noqa: S101  the report asks only where there are pictures
        grey = torch.from_numpy(self.pictures.mean(1, keepdims=True, dtype=np.float32))
        if max(grey.shape[2:]) > _WIDEST:
            grey = functional.interpolate(grey, _WIDEST, mode="area")
        rows = grey.flatten(1)
        return replace(self, embeddings=rows - rows.mean(0), geometry="cosine")


def shortened(text: str) -> str:
    """A text in one line that can be shown."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def read_gallery(run: Path) -> Gallery:
    """What a run was evaluated on: the examples of the first split in its gallery, which holds all of them."""
    return _read(run / "gallery")


def read_questions(run: Path) -> tuple[Gallery, list[int]] | None:
    """What asked the gallery, and which row of it answers each; None where examples are no pairs."""
    folder = run / "questions"
    if not folder.is_dir():
        return None
    return _read(folder), [int(item["answer"]) for item in FlatIndex(folder).items]


def beside(answers: Gallery, questions: Gallery) -> Gallery:
    """The answers, with the pictures or series of the questions after their own."""

    def both(one: NDArray[Any] | None, other: NDArray[Any] | None) -> NDArray[Any] | None:
        fits = one is not None and other is not None and one.shape[1:] == other.shape[1:]
        return np.concatenate([one, other]) if fits and one is not None and other is not None else None

    pictures, outlines = both(answers.pictures, questions.pictures), both(answers.outlines, questions.outlines)
    return replace(answers, pictures=pictures, outlines=outlines)


def _read(folder: Path) -> Gallery:
    index = FlatIndex(folder)
    split = index.items[0].get("split") if len(index) else None
    items: list[Mapping[str, Any]] = list(takewhile(lambda item: item.get("split") == split, index.items))
    classes = [item.get("label") for item in items]
    names = list(dict.fromkeys(name for name in classes if name is not None))
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
    has_texts, has_targets = (bool(items) and all(key in item for item in items) for key in ("text", "target"))
    return Gallery(
        embeddings=torch.from_numpy(np.array(index.embeddings[: len(items)])),
        geometry=index.geometry,
        ids=[item["id"] for item in items],
        labels=np.array([numbers.get(name, -1) for name in classes], dtype=np.int64),
        names=names,
        pictures=_first(index.array(THUMBNAILS), len(items)),
        outlines=_first(index.array(OUTLINES), len(items)),
        texts=[item["text"] for item in items] if has_texts else None,
        targets=np.array([item["target"] for item in items], dtype=np.float64) if has_targets else None,
    )


def _first(rows: NDArray[Any] | None, count: int) -> NDArray[Any] | None:
    return None if rows is None else rows[:count]
