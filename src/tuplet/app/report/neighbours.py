"""Who lies next to whom: examples, mistakes and confused classes."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tuplet.app.report.gallery import Gallery
from tuplet.engine.topk import topk
from tuplet.seeding import derive
from tuplet.types import GeometryName

SHOWN = 5
"""Neighbours shown per query."""
_MOST_QUERIES = 20_000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Nearest neighbours of examples among all examples.

    Args:
        queries: Positions of the examples that ask, ascending; with classes, each has company in its own.
        positions: Positions of their neighbours, nearest first (queries, SHOWN).
        scores: Their scores, in the unit of the geometry.
        labels: Class of every example; negative where unknown.
        geometry: What the scores mean.
    """

    queries: NDArray[np.int64]
    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    geometry: GeometryName

    @property
    def nearness(self) -> NDArray[np.float64]:
        """How near the nearest neighbour of each query is; larger is nearer."""
        return self.scores[:, 0] if self.geometry in ("cosine", "dot") else -self.scores[:, 0]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether the nearest neighbour of each query is of its class."""
        return self.labels[self.positions[:, 0]] == self.labels[self.queries]


@dataclass(frozen=True)
class Confusion:
    """Two classes whose examples lie next to each other.

    Args:
        classes: Their ids, lower first.
        mistakes: Queries of either class whose nearest neighbour is of the other.
        queries: Queries of both classes.
        pictures: An example of each, those of the closest mistake.
    """

    classes: tuple[int, int]
    mistakes: int
    queries: int
    pictures: tuple[int, int]


def find_neighbours(gallery: Gallery, seed: int, device: str = "cpu") -> Neighbours:
    """The nearest neighbours of all examples, or of an even sample where there are more than 20,000.

    Where there are classes, those ask that are not alone in theirs. They are searched for on `device`.
    """
    labels = gallery.labels
    counts = np.bincount(labels[labels >= 0], minlength=1)
    able = np.flatnonzero((labels >= 0) & (counts[labels.clip(0)] > 1))
    if not gallery.names and len(labels) > 1:
        able = np.arange(len(labels))
    queries = able[draw(len(able), _MOST_QUERIES, seed, "queries")]
    asking, rows = torch.from_numpy(queries).to(device), gallery.embeddings.to(device)
    found = topk(rows[asking], rows, SHOWN, gallery.geometry, exclude=asking)
    return Neighbours(queries, found.positions.cpu().numpy(), found.scores.cpu().numpy(), labels, gallery.geometry)


def draw(count: int, most: int, seed: int, purpose: str) -> NDArray[np.int64]:
    """At most `most` of the numbers below `count`, ascending, the same ones for the same seed and purpose."""
    if count <= most:
        return np.arange(count)
    chosen = torch.randperm(count, generator=derive(seed, "report", purpose))[:most]
    return np.sort(chosen.numpy())


def pick_typical(found: Neighbours, count: int, seed: int) -> list[int]:
    """Rows of `found`, drawn without looking at the result, one per class as far as there are classes."""
    order = torch.randperm(len(found.queries), generator=derive(seed, "report", "typical")).tolist()
    return _first_of_each(order, lambda row: int(found.labels[found.queries[row]]), count)


def pick_worst(found: Neighbours, count: int) -> list[int]:
    """Rows of `found` that go most wrong: the fewest neighbours of their class, then the nearest wrong one.

    One row per pair of classes as far as there are pairs.
    """
    rows = np.flatnonzero(~found.is_right)
    places = found.positions[rows]
    right = ((found.labels[places] == found.labels[found.queries[rows], None]) & (places >= 0)).sum(1)
    order = rows[np.lexsort((rows, -found.nearness[rows], right))].tolist()
    return _first_of_each(order, lambda row: _classes(found, row), count)


def pick_twins(found: Neighbours, count: int) -> list[int]:
    """Rows of `found` whose nearest neighbour is of another class and nearest of all, one per pair of classes."""
    rows = np.flatnonzero(~found.is_right)
    order = rows[np.lexsort((rows, -found.nearness[rows]))].tolist()
    return _first_of_each(order, lambda row: _classes(found, row), count)


def most_confused(found: Neighbours, count: int) -> list[Confusion]:
    """Pairs of classes with the most wrong nearest neighbours between them."""
    wrong = np.flatnonzero(~found.is_right).tolist()
    per_class = Counter(found.labels[found.queries].tolist())
    mistakes = Counter(_classes(found, row) for row in wrong)
    pairs = sorted(mistakes, key=lambda pair: (-mistakes[pair], pair))[:count]
    samples: dict[tuple[int, int], int] = {}
    for row in wrong:  # the first mistake of each pair stands for it
        samples.setdefault(_classes(found, row), row)
    confusions = []
    for pair in pairs:
        query, other = int(found.queries[samples[pair]]), int(found.positions[samples[pair], 0])
        pictures = (query, other) if found.labels[query] == pair[0] else (other, query)
        confusions.append(Confusion(pair, mistakes[pair], per_class[pair[0]] + per_class[pair[1]], pictures))
    return confusions


def _classes(found: Neighbours, row: int) -> tuple[int, int]:
    first, second = sorted((int(found.labels[found.queries[row]]), int(found.labels[found.positions[row, 0]])))
    return first, second


def _first_of_each(rows: Sequence[int], key: Callable[[int], Hashable], count: int) -> list[int]:
    firsts: dict[Hashable, int] = {}
    for row in rows:
        firsts.setdefault(key(row), row)
    chosen = list(firsts.values())[:count]
    return chosen + [row for row in rows if row not in chosen][: count - len(chosen)]


_SHOWN, _NEAREST = 16, 8
_FROM, _TO = 200, 5000  # ranks by frequency: known to everybody, and more than glue


@dataclass(frozen=True)
class Word:
    """A word and the nearest ones, nearest first."""

    word: str
    nearest: Sequence[str]


def pick_words(gallery: Gallery, seed: int) -> list[Word]:
    """Some frequent words, sampled at random, with their neighbours; the gallery holds words by falling frequency."""
    count = len(gallery.ids)
    first = min(_FROM, count // 10)
    plotted = torch.randperm(min(_TO, count) - first, generator=derive(seed, "report", "words"))[:_SHOWN] + first
    rows = plotted.sort().values
    found = topk(gallery.embeddings[rows], gallery.embeddings, _NEAREST, gallery.geometry, exclude=rows)
    return [
        Word(gallery.ids[row], [gallery.ids[at] for at in near if at >= 0])
        for row, near in zip(rows.tolist(), found.positions.tolist(), strict=True)
    ]
