"""Examples as the page shows them: queries with their hits, pairs of classes, outlines of series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuplet.app.report.gallery import Gallery
from tuplet.app.report.neighbours import Neighbours


@dataclass(frozen=True)
class Hit:
    """A neighbour of a query; whether it is right is None where nothing says so."""

    position: int
    id: str
    label: str
    score: float
    is_right: bool | None
    text: str = ""


@dataclass(frozen=True)
class Query:
    """An example and its neighbours."""

    position: int
    id: str
    label: str
    hits: tuple[Hit, ...]
    text: str = ""


@dataclass(frozen=True)
class Pair:
    """Two classes that lie next to each other; `pictures` are positions."""

    names: tuple[str, str]
    pictures: tuple[int, int]
    mistakes: int = 0
    queries: int = 0


def show_query(gallery: Gallery, found: Neighbours, row: int) -> Query:
    """A row of neighbours."""
    query = int(found.queries[row])
    hits = tuple(
        Hit(
            position,
            gallery.ids[position],
            gallery.name(position),
            score,
            bool(gallery.labels[position] == gallery.labels[query]) if gallery.names else None,
            gallery.text(position),
        )
        for position, score in zip(found.positions[row].tolist(), found.scores[row].tolist(), strict=True)
        if position >= 0
    )
    return Query(query, gallery.ids[query], gallery.name(query), hits, gallery.text(query))


def positions_of(queries: Sequence[Query], pairs: Sequence[Pair]) -> list[int]:
    """Every example that is shown, once."""
    positions = [query.position for query in queries]
    positions += [hit.position for query in queries for hit in query.hits]
    positions += [position for pair in pairs for position in pair.pictures]
    return list(dict.fromkeys(positions))


def draw_outlines(series: NDArray[np.float16], positions: Sequence[int]) -> dict[int, list[str]]:
    """Points of a line for each channel, in a box of 100 x 40, by position."""
    plotted = {}
    for position in positions:
        rows = np.asarray(series[position], dtype=np.float64)
        low, high = rows.min(), rows.max()
        y = 38 - 36 * (rows - low) / max(high - low, 1e-9)
        x = np.linspace(0, 100, rows.shape[1])
        plotted[position] = [" ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, row, strict=True)) for row in y]
    return plotted
