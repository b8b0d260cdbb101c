"""The walk over the matrix anchors × references, tile by tile, and its autograd function.

Gradients are accumulated during forward and only multiplied in backward, so nothing is kept but tensors of the inputs'
shapes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.gather import ALONE, Processes, add_up, sum_of
from tuplet.engine.once import multiplied
from tuplet.engine.reduction import Outcome, Partial, Reduction, Tile
from tuplet.engine.symmetric import HALF_SIDE, walk_half
from tuplet.engine.tiles import Plan, plan
from tuplet.errors import ShapeError
from tuplet.geometry import Geometry, geometry_of
from tuplet.margin import Bend, Margin, bend
from tuplet.relation import Relation
from tuplet.types import GeometryName


def stream(
    reduction: Reduction[Any],
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    geometry: GeometryName | Geometry = "cosine",
    *,
    margin: Margin | None = None,
    scale: float | Tensor = 1.0,
    offset: Tensor | None = None,
    weights: Tensor | None = None,
    tile_size: int | None = None,
    processes: Processes = ALONE,
    shards: Processes = ALONE,
    stats: bool = False,
) -> Outcome:
    r"""Fold every row of anchors × references into a loss, exactly, without ever holding the matrix.

    $$L = \frac{\sum_i w_i \ell_i}{\sum_i w_i n_i}, \quad
    (\ell_i, n_i) = \mathrm{reduce}_j(s_i\,\mathrm{margin}(\mathrm{geometry}(a_i, r_j)) + \mathrm{offset}_j)$$

    Args:
        reduction: What a row becomes.
        anchors: Embeddings that ask, (anchors, dim); those of this process.
        references: Embeddings that answer, (references, dim); those of all processes. The same tensor for one set.
        relation: Who is whose positive, negative or neither.
        geometry: How two embeddings are compared.
        margin: Bends the cosines of positives.
        scale: Multiplies scores; a number, a tensor without shape, or one per anchor.
        offset: Added to the scores of each reference, (references,).
        weights: w, one per anchor, at least 0.
        tile_size: Most entries of a tile. The result does not depend on it but for rounding.
        processes: Who walks together; losses and counts are summed over them.
        shards: Who walks over the same anchors with references of their own. Folds are merged, so that each has the
            whole outcome; gradients are of this process's part of the matrix.
        stats: True to add mean scores of positives and negatives to what is returned.

    Returns:
        Sum of losses (differentiable), what the mean divides by, and statistics.
    """
    _check(anchors, references, relation, weights, offset)
    anchors, references = _widened(anchors, references)
    wide, geometry = anchors.dtype, geometry_of(geometry)
    with torch.autocast(anchors.device.type, enabled=False):
        a, r = geometry.prepare(anchors, references)
        scale_rows = scale.to(wide).expand(len(a)) if isinstance(scale, Tensor) else None
        walk = _Walk(
            reduction,
            relation,
            geometry,
            margin,
            1.0 if isinstance(scale, Tensor) else float(scale),
            weights,
            tile_size,
            shards,
            stats,
        )
        total, count, *sums = _Stream.apply(a, r, scale_rows, None if offset is None else offset.to(wide), walk)  # type: ignore[no-untyped-call]
    stats_of = {name: sum_of(sum_of(s, shards), processes) for name, s in zip(walk.stat_names, sums, strict=True)}
    return Outcome(add_up(total, processes), sum_of(count, processes), stats_of)


@dataclass
class _Walk:
    """All of a walk but the tensors that have gradients."""

    reduction: Reduction[Any]
    relation: Relation
    geometry: Geometry
    margin: Margin | None
    scale: float
    weights: Tensor | None
    tile_size: int | None
    shards: Processes
    stats: bool
    stat_names: tuple[str, ...] = ()

    @property
    def turned(self) -> bool:
        """True if the reduction reads distances of a similarity or the reverse."""
        return self.geometry.kind != self.reduction.reads

    @property
    def like_similarity(self) -> bool:
        """True if a factor of the scores can be multiplied into the anchors."""
        return self.geometry.kind == "similarity"


@dataclass
class _Grads:
    """Sums of slopes so far; None where no gradient is asked for."""

    a: Tensor | None
    r: Tensor | None
    scale: Tensor | None
    offset: Tensor | None

    @property
    def wanted(self) -> bool:
        """True if slopes are needed at all."""
        return any(grad is not None for grad in (self.a, self.r, self.scale, self.offset))


@dataclass
class _Scored:
    """A tile with what the way back needs."""

    tile: Tile
    memo: Any
    a: Tensor  # anchors of the tile, multiplied by the factor if the geometry allows it
    factor: Tensor | float
    bent: Bend | None
    raw: Tensor | None  # scores before the factor, kept only for a learned factor of distances


class _Stream(torch.autograd.Function):
    """Forward walks and accumulates gradients; backward multiplies them by the incoming number."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, scale: Tensor | None, offset: Tensor | None, walk: _Walk) -> Any:
        asked = ctx.needs_input_grad
        grads = _Grads(
            *(
                torch.zeros_like(x) if x is not None and need else None
                for x, need in zip((a, r, scale, offset), asked, strict=False)
            )
        )
        half = _half(walk, a, r, scale, offset)
        if half is not None:
            factor, shift = _sign(walk) * walk.scale, _shift(walk)
            partials = [walk_half(half, a, walk.relation, walk.geometry, factor, shift, walk.tile_size, grads.a)]
            grads.r = None
        else:
            strips = walk.shards.size > 1  # shards differ in width, but merge the same blocks of anchors
            cuts = plan(len(a), len(r), walk.tile_size, whole_rows=walk.reduction.whole_rows, strips=strips)
            partials = [_block(walk, cuts, rows, a, r, scale, offset, grads) for rows in cuts.rows]
        weights = walk.weights
        loss = torch.cat([part.loss for part in partials]).double()
        count = torch.cat([part.count for part in partials]).double()
        if weights is not None:
            loss, count = loss * weights.double(), count * weights.double()
        walk.stat_names = tuple(partials[0].stats)
        rows = [torch.cat([part.stats[name] for part in partials]).double() for name in walk.stat_names]
        sums = [(row if weights is None else row * weights.double()).sum() for row in rows]
        ctx.save_for_backward(a, r, scale, offset, grads.a, grads.r, grads.scale, grads.offset)
        outputs = (loss.sum().to(a.dtype), count.sum(), *sums)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return (*multiplied(ctx.saved_tensors, grad), None)


def _block(
    walk: _Walk,
    cuts: Plan,
    rows: slice,
    a: Tensor,
    r: Tensor,
    scale: Tensor | None,
    offset: Tensor | None,
    grads: _Grads,
) -> Partial:
    """All tiles of one block of anchors: fold, finish, slope."""
    reduction = walk.reduction
    state = reduction.start(a, rows)
    stats: dict[str, Tensor] = {}
    buffer = a.new_empty((rows.stop - rows.start) * max(cols.stop - cols.start for cols in cuts.cols))
    scored: _Scored | None = None
    kept = cuts.whole and walk.shards.size == 1
    for step in range(reduction.folds):
        for cols in cuts.cols:
            if scored is None or not kept:
                scored = _score(walk, rows, cols, a, r, scale, offset, buffer, whole=kept)
            if walk.stats and step == 0:
                _add_stats(stats, scored.tile)
            reduction.fold(step, state, scored.tile)
            if reduction.local and grads.wanted:
                _pull(walk, scored, reduction.slope(state, scored.tile), a, r, grads)
    if walk.shards.size > 1:
        state = reduction.merge(state, walk.shards)
    partial = reduction.finish(state)
    if grads.wanted and not reduction.local:
        for cols in cuts.cols:
            if scored is None or not kept:
                scored = _score(walk, rows, cols, a, r, scale, offset, buffer, whole=kept)
            _pull(walk, scored, reduction.slope(state, scored.tile), a, r, grads)
    return Partial(partial.loss, partial.count, {**partial.stats, **stats})


def _score(
    walk: _Walk,
    rows: slice,
    cols: slice,
    a: Tensor,
    r: Tensor,
    scale: Tensor | None,
    offset: Tensor | None,
    buffer: Tensor,
    *,
    whole: bool,
) -> _Scored:
    """Scores of one tile, in the sense the reduction reads them."""
    height, width = rows.stop - rows.start, cols.stop - cols.start
    out = buffer[: height * width].view(height, width)
    tile = Tile(out, rows, cols, walk.relation, whole, walk.stats)
    factor: Tensor | float = _sign(walk) * (walk.scale if scale is None else scale[rows, None])
    mine, bent, raw = a[rows], None, None
    scaled = isinstance(factor, Tensor) or factor != 1.0
    if walk.like_similarity:
        mine = mine * factor if scaled else mine
        memo = walk.geometry.scores(mine, r[cols], out)
    else:
        memo = walk.geometry.scores(mine, r[cols], out)
        raw = out.clone() if scale is not None and scale.requires_grad else None
        if scaled:
            out.mul_(factor)
    if walk.margin is not None:
        at = tile.positives
        bent = bend(walk.margin, at, a[rows], walk.geometry.pick(r[cols], memo, at.rows, at.cols))
        out[at.rows, at.cols] = bent.score * _of_rows(factor, at.rows)
    if walk.turned and walk.geometry.flip:
        out.add_(walk.geometry.flip * (walk.scale if scale is None else scale[rows, None]))
    if offset is not None:
        out.add_(offset[cols])
    return _Scored(tile, memo, mine, factor, bent, raw)


def _pull(walk: _Walk, scored: _Scored, slope: Tensor, a: Tensor, r: Tensor, grads: _Grads) -> None:
    """Turn slopes of a tile into gradients."""
    rows, cols, factor = scored.tile.rows, scored.tile.cols, scored.factor
    if walk.weights is not None:
        slope = slope.mul_(walk.weights[rows, None].to(slope.dtype))
    if grads.offset is not None:
        grads.offset[cols] += slope.sum(0)
    along = None if grads.scale is None else slope.new_zeros(rows.stop - rows.start)
    if along is not None and walk.turned and walk.geometry.flip:
        along += walk.geometry.flip * slope.sum(1)
    grad_r = None if grads.r is None else grads.r[cols]
    if scored.bent is not None:
        _pull_bent(walk, scored, scored.bent, slope, None if grads.a is None else grads.a[rows], grad_r, along)
    if not walk.like_similarity:
        if along is not None and scored.raw is not None:
            along += _sign(walk) * (slope * scored.raw).sum(1)
        slope = slope.mul_(factor) if isinstance(factor, Tensor) or factor != 1.0 else slope
    need_a = grads.a is not None or (along is not None and walk.like_similarity)
    pulled = torch.zeros_like(scored.a) if need_a else None
    walk.geometry.pull(slope, scored.memo, scored.a, r[cols], pulled, grad_r)
    if along is not None and pulled is not None and walk.like_similarity:
        along += _sign(walk) * (pulled * a[rows]).sum(1)  # sum_j slope_ij (a_i . r_j)
    if grads.a is not None and pulled is not None:
        grads.a[rows] += pulled * factor if walk.like_similarity else pulled
    if along is not None and grads.scale is not None:
        grads.scale[rows] += along


def _pull_bent(
    walk: _Walk,
    scored: _Scored,
    bent: Bend,
    slope: Tensor,
    grad_a: Tensor | None,
    grad_r: Tensor | None,
    along: Tensor | None,
) -> None:
    """Take the bent entries out of `slope`; they pull along their tangents."""
    rows, cols = bent.at.rows, bent.at.cols
    pulls = slope[rows, cols]
    slope[rows, cols] = 0
    if along is not None:
        along.index_add_(0, rows, pulls * bent.score, alpha=_sign(walk))
    pulls = (pulls * _of_rows(scored.factor, rows))[:, None]
    if grad_a is not None:
        grad_a.index_add_(0, rows, pulls * bent.mine)
    if grad_r is not None:
        walk.geometry.place(grad_r, scored.memo, rows, cols, pulls * bent.theirs)


def _of_rows(factor: Tensor | float, rows: Tensor) -> Tensor | float:
    """The factor of each entry, by its row."""
    return factor[rows, 0] if isinstance(factor, Tensor) else factor


def _add_stats(stats: dict[str, Tensor], tile: Tile) -> None:
    """Sums and numbers of the scores of positives and of negatives."""
    at = tile.positives
    drawn = tile.scores[at.rows, at.cols]
    ones = torch.ones_like(drawn)
    positive, positives = tile.per_row(drawn), tile.per_row(ones)
    counted = tile.hide_ignored(0.0, tile.scores.clone()).sum(1)
    found = {
        "positive_score": positive,
        "positives": positives,
        "negative_score": counted - positive,
        "negatives": tile.negatives_per_row(),
    }
    for name, value in found.items():
        stats[name] = stats[name] + value if name in stats else value


def _half(walk: _Walk, a: Tensor, r: Tensor, scale: Tensor | None, offset: Tensor | None) -> Reduction[Any] | None:
    """The reduction for half of the tiles, if one set meets itself and nothing tells rows from columns."""
    if walk.relation.first != 0 or r is not a or any(x is not None for x in (scale, offset, walk.margin, walk.weights)):
        return None
    if walk.stats or (walk.tile_size is None and len(a) <= HALF_SIDE):
        return None
    peak = walk.geometry.peak
    return walk.reduction.halved(None if peak is None or walk.turned else peak * walk.scale)


def _sign(walk: _Walk) -> float:
    return -1.0 if walk.turned else 1.0


def _shift(walk: _Walk) -> float:
    return walk.geometry.flip * walk.scale if walk.turned else 0.0


def _widened(anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the accumulation type; one set stays one tensor."""
    wide = torch.promote_types(torch.promote_types(anchors.dtype, references.dtype), torch.float32)
    wider = anchors.to(wide)
    return wider, wider if references is anchors else references.to(wide)


def _check(
    anchors: Tensor, references: Tensor, relation: Relation, weights: Tensor | None, offset: Tensor | None
) -> None:
    found = (len(anchors), len(references), anchors.shape[-1], references.shape[-1])
    if anchors.ndim != 2 or found[:2] != (relation.anchors, relation.references) or found[2] != found[3]:
        raise ShapeError(
            f"anchors have shape {tuple(anchors.shape)}, references {tuple(references.shape)}, "
            f"the relation is about {relation.anchors} anchors and {relation.references} references.",
            hint="Anchors and references are (rows, dim) with the same dim, and each row has one label.",
            reference="embedding-shape",
        )
    if (weights is not None and len(weights) != len(anchors)) or (
        offset is not None and len(offset) != len(references)
    ):
        raise ShapeError(
            "weights or offset do not have one entry per anchor or reference.",
            hint="weights has shape (anchors,), offset has shape (references,).",
            reference="weight-shape",
        )
