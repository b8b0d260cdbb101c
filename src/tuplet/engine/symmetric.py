"""One set against itself under a symmetric reduction: only the tiles on and above the diagonal.

Each tile serves its rows and, mirrored, its columns, which halves the work of every product.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.engine.tiles import KEPT, spans
from tuplet.geometry import Geometry
from tuplet.relation import Relation

HALF_SIDE = 512
"""Side of a tile when nothing is said; half of it for sets that would make fewer than three blocks."""


def stream_symmetric(
    reduction: Reduction[Any],
    x: Tensor,
    relation: Relation,
    geometry: Geometry,
    factor: float,
    shift: float,
    tile_size: int | None,
    grad: Tensor | None,
) -> Partial:
    """Reduce the upper triangle and accumulate its gradients.

    Args:
        reduction: What `Reduction.symmetric` gave.
        x: Prepared embeddings (rows, dim).
        relation: One set: row i is column i.
        geometry: Symmetric in its two sides.
        factor: Multiplies scores.
        shift: Added to scores after that.
        tile_size: Most entries of a tile.
        grad: Gradient to add to, or None.

    Returns:
        Losses and counts of all rows.
    """
    usual = HALF_SIDE if len(x) > 2 * HALF_SIDE else HALF_SIDE // 2
    size = max(1, usual if tile_size is None else math.isqrt(tile_size))
    blocks = spans(len(x), size)
    tiles = [(rows, cols) for k, rows in enumerate(blocks) for cols in blocks[k:]]
    buffer = x.new_empty(min(size, len(x)) ** 2)
    later, room = grad is not None and not reduction.local, KEPT if tile_size is None else tile_size
    state = reduction.start(x, slice(0, len(x)))
    kept = []
    for rows, cols in tiles:
        room -= (entries := (rows.stop - rows.start) * (cols.stop - cols.start))
        stays = later and room >= 0
        out = x.new_empty(entries) if stays else buffer
        scored = _score(x, rows, cols, relation, geometry, factor, shift, out, kept=stays)
        reduction.update(0, state, scored[0])
        if stays:
            kept.append(scored)
        elif grad is not None and reduction.local:
            _backward(reduction.grad_scores(state, scored[0]), *scored, x, geometry, factor, grad)
    partial = reduction.finish(state)
    if grad is None:
        return partial
    for k, (rows, cols) in enumerate(tiles) if later else ():
        done = kept[k] if k < len(kept) else None
        scored = done or _score(x, rows, cols, relation, geometry, factor, shift, buffer, kept=False)
        _backward(reduction.grad_scores(state, scored[0]), *scored, x, geometry, factor, grad)
    return partial


def _score(
    x: Tensor,
    rows: slice,
    cols: slice,
    relation: Relation,
    geometry: Geometry,
    factor: float,
    shift: float,
    buffer: Tensor,
    *,
    kept: bool,
) -> tuple[Tile, Any, Tensor]:
    height, width = rows.stop - rows.start, cols.stop - cols.start
    out = buffer[: height * width].view(height, width)
    similar = geometry.kind == "similarity"
    mine = x[rows] * factor if similar and factor != 1.0 else x[rows]
    memo = geometry.scores(mine, x[cols], out)
    if not similar and factor != 1.0:
        out.mul_(factor)
    if shift:
        out.add_(shift)
    return Tile(out, rows, cols, relation, kept), memo, mine


def _backward(
    grad_scores: Tensor,
    tile: Tile,
    memo: Any,
    mine: Tensor,
    x: Tensor,
    geometry: Geometry,
    factor: float,
    grad: Tensor,
) -> None:
    """A tile off the diagonal pulls on both of its sides; one on it holds both mirror images already."""
    similar = geometry.kind == "similarity"
    if not similar and factor != 1.0:
        grad_scores.mul_(factor)
    theirs = None if tile.rows == tile.cols else grad[tile.cols]
    if similar and factor != 1.0:
        grad_scaled = torch.zeros_like(mine)
        geometry.backward(grad_scores, memo, mine, x[tile.cols], grad_scaled, theirs)
        grad[tile.rows].add_(grad_scaled, alpha=factor)
    else:
        geometry.backward(grad_scores, memo, mine, x[tile.cols], grad[tile.rows], theirs)
