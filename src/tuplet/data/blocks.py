"""Blocks of examples that a relation holds together.

No positive pair lies in two, so a split that keeps blocks whole evaluates on what training has never met.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.labels import UNKNOWN
from tuplet.data.related import Related
from tuplet.data.statement import Asked, Expression, Joined, Opposite

Blocks = NDArray[np.int64]


def blocks_of(related: Related) -> Blocks | None:
    """A number for each example, equal within a block; -1 for an example of which nothing is said.

    Of a hierarchy the finest level counts, as the classes within larger ones do elsewhere.

    Args:
        related: What is positive.

    Returns:
        None where only a look at every pair would tell: of matrices, of a guide's scores, of what is *not* so.
    """
    values = iter([value.numpy() for value in related.values])
    blocks = _blocks(related.statement.said, values)
    if blocks is None:
        return None
    known = blocks != UNKNOWN
    blocks[known] = np.unique(blocks[known], return_inverse=True)[1]
    return blocks


def _blocks(said: Expression, values: Any) -> Blocks | None:
    match said:
        case Joined(kind, first, second):
            one, other = _blocks(first, values), _blocks(second, values)
            if kind == "ignoring":  # what is ignored is not positive
                return one
            if one is None or other is None:
                return (other if one is None else one) if kind == "and" else None
            return _met(one, other) if kind == "and" else _joined(one, other)
        case Opposite(inner):
            _blocks(inner, values)
            return None
        case Asked():
            mine, form = next(values), _FORMS.get(said.kind)
            return None if form is None else form(said, mine)


def _met(one: Blocks, other: Blocks) -> Blocks:
    """What lies in one block of both."""
    both = np.unique(np.stack([one, other], 1), axis=0, return_inverse=True)[1].ravel().astype(np.int64)
    both[(one == UNKNOWN) | (other == UNKNOWN)] = UNKNOWN
    return both


def _joined(one: Blocks, other: Blocks) -> Blocks:
    """What one block of either holds together, directly or over others."""
    known = [(blocks, np.flatnonzero(blocks != UNKNOWN)) for blocks in (one, other)]
    first = len(one)  # the nodes of blocks come behind those of examples
    edges = []
    for blocks, rows in known:
        edges.append(np.stack([rows, first + blocks[rows]], 1))
        first += int(blocks.max(initial=UNKNOWN)) + 1
    found = _components(np.concatenate(edges), first)[: len(one)]
    found[(one == UNKNOWN) & (other == UNKNOWN)] = UNKNOWN
    return found


def _components(edges: NDArray[np.int64], count: int) -> Blocks:
    from scipy.sparse import coo_array  # noqa: PLC0415  # an optional part, there wherever recipes are
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415  # as above

    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _of_class(_: Asked, mine: NDArray[np.int64]) -> Blocks:
    """Examples of a class, which an array may give any number."""
    found = np.unique(mine, return_inverse=True)[1].astype(np.int64)
    found[mine == UNKNOWN] = UNKNOWN
    return found


def _of_levels(_: Asked, mine: NDArray[np.int64]) -> Blocks:
    """Examples that agree on every level."""
    found = np.unique(mine, axis=0, return_inverse=True)[1].ravel().astype(np.int64)
    found[(mine == UNKNOWN).any(1)] = UNKNOWN
    return found


def _of_labels(_: Asked, mine: NDArray[np.bool_]) -> Blocks:
    """Examples that share a label, directly or over others."""
    rows, labels = np.nonzero(mine)
    found = _components(np.stack([rows, len(mine) + labels], 1), sum(mine.shape))[: len(mine)]
    found[~mine.any(1)] = UNKNOWN
    return found


def _of_mates(_: Asked, mine: NDArray[np.int64]) -> Blocks:
    """Examples of which one names the other, directly or over others."""
    numbers, places = np.unique(mine, return_inverse=True)
    edges = places.reshape(mine.shape)[mine[:, 1] != UNKNOWN]
    return _components(edges, len(numbers))[places.reshape(mine.shape)[:, 0]]


def _within(asked: Asked, mine: NDArray[Any]) -> Blocks | None:
    """Examples that follow one another without a longer pause; places of several numbers have no such order."""
    if mine.ndim > 1:
        return None
    order = np.argsort(mine, kind="stable")
    sorted_ = mine[order]
    found = np.empty(len(mine), np.int64)
    found[order] = np.cumsum(np.diff(sorted_, prepend=sorted_[:1]) > (asked.number or 0.0))
    if mine.dtype.kind == "f":
        found[np.isnan(mine)] = UNKNOWN
    return found


_FORMS: Mapping[str, Callable[[Asked, NDArray[Any]], Blocks | None]] = {
    "same_class": _of_class,
    "shared_label": _of_labels,
    "paired": _of_mates,
    "within": _within,
    "hierarchy": _of_levels,
    "tree_distance": _of_levels,
}
