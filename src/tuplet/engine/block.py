"""One block of anchors against all references: score, fold, and turn slopes into gradients."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.gather import Processes, sum_of
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.engine.tiles import KEPT, Plan
from tuplet.geometry import Geometry
from tuplet.margin import Bend, Margin, bend
from tuplet.relation import Relation


@dataclass
class Walk:
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
    def sign(self) -> float:
        """What turning does to a score."""
        return -1.0 if self.turned else 1.0

    @property
    def like_similarity(self) -> bool:
        """True if a factor of the scores can be multiplied into the anchors."""
        return self.geometry.kind == "similarity"


@dataclass
class Inputs:
    """What gradients are asked for: prepared anchors and references, one scale per anchor, one offset per reference."""

    a: Tensor
    r: Tensor
    scale: Tensor | None
    offset: Tensor | None


@dataclass
class Grads:
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


def walk_block(walk: Walk, cuts: Plan, rows: slice, inputs: Inputs, grads: Grads) -> Partial:
    """All tiles of one block of anchors: fold, finish, slope."""
    reduction = walk.reduction
    slopes_later = grads.wanted and not reduction.local
    tiles = _Tiles(walk, cuts, rows, inputs, KEPT if slopes_later and reduction.folds == 1 else 0)
    state = reduction.start(inputs.a, rows)
    stats: dict[str, Tensor] = {}
    for step in range(reduction.folds):
        for cols in cuts.cols:
            scored = tiles.at(cols)
            if walk.stats and step == 0:
                _add_stats(stats, scored.tile, None if inputs.offset is None else inputs.offset[cols])
            reduction.fold(step, state, scored.tile)
            if grads.wanted and reduction.local:
                _pull(walk, scored, reduction.slope(state, scored.tile), inputs, grads)
    if walk.shards.size > 1:
        state = reduction.merge(state, walk.shards)
    partial = reduction.finish(state)
    for cols in cuts.cols if slopes_later else ():
        scored = tiles.at(cols)
        _pull(walk, scored, reduction.slope(state, scored.tile), inputs, grads)
    if walk.stats:
        _finish_stats(stats, walk, inputs.scale, rows)
    return Partial(partial.loss, partial.count, {**partial.stats, **stats})


class _Tiles:
    """Tiles of a block: those that there is room for are scored once and stay, the others share their memory."""

    def __init__(self, walk: Walk, cuts: Plan, rows: slice, inputs: Inputs, room: int) -> None:
        self.walk, self.rows, self.inputs = walk, rows, inputs
        self.height = rows.stop - rows.start
        self.width = max(cols.stop - cols.start for cols in cuts.cols)
        self.deep = self.height + inputs.r[:1].numel()  # numbers for each column: a geometry may keep references too
        self.room = max(room, self.width * self.deep) if cuts.whole else room
        self.kept: dict[int, _Scored] = {}
        self.shared: Tensor | None = None

    def at(self, cols: slice) -> _Scored:
        """The tile of these columns; one that was kept is as it was left."""
        if cols.start in self.kept:
            return self.kept[cols.start]
        width = cols.stop - cols.start
        if (needed := width * self.deep) <= self.room:
            self.room -= needed
            out = self.inputs.a.new_empty(self.height, width)
            self.kept[cols.start] = scored = _score(self.walk, self.rows, cols, self.inputs, out, kept=True)
            return scored
        if self.shared is None:
            self.shared = self.inputs.a.new_empty(self.height * self.width)
        out = self.shared[: self.height * width].view(self.height, width)
        return _score(self.walk, self.rows, cols, self.inputs, out, kept=False)


def _score(walk: Walk, rows: slice, cols: slice, inputs: Inputs, out: Tensor, *, kept: bool) -> _Scored:
    """Scores of one tile, in the sense the reduction reads them."""
    a, r, scale = inputs.a[rows], inputs.r[cols], inputs.scale
    tile = Tile(out, rows, cols, walk.relation, kept, walk.stats)
    factor: Tensor | float = walk.sign * (walk.scale if scale is None else scale[rows, None])
    scaled = isinstance(factor, Tensor) or factor != 1.0
    mine, bent, raw = a, None, None
    if walk.like_similarity:
        mine = a * factor if scaled else a
        memo = walk.geometry.scores(mine, r, out)
    else:
        memo = walk.geometry.scores(mine, r, out)
        raw = out.clone() if scale is not None and scale.requires_grad else None
        if scaled:
            out.mul_(factor)
    if walk.margin is not None:
        at = tile.positives
        bent = bend(walk.margin, at, a, walk.geometry.pick(r, memo, at.rows, at.cols))
        out[at.rows, at.cols] = bent.score * _of_rows(factor, at.rows)
    if walk.turned and walk.geometry.flip:
        out.add_(walk.geometry.flip * (walk.scale if scale is None else scale[rows, None]))
    if inputs.offset is not None:
        out.add_(inputs.offset[cols])
    return _Scored(tile, memo, mine, factor, bent, raw)


def _pull(walk: Walk, scored: _Scored, slope: Tensor, inputs: Inputs, grads: Grads) -> None:
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
            along += walk.sign * (slope * scored.raw).sum(1)
        slope = slope.mul_(factor) if isinstance(factor, Tensor) or factor != 1.0 else slope
    need_a = grads.a is not None or (along is not None and walk.like_similarity)
    pulled = torch.zeros_like(scored.a) if need_a else None
    walk.geometry.pull(slope, scored.memo, scored.a, inputs.r[cols], pulled, grad_r)
    if along is not None and pulled is not None and walk.like_similarity:
        along += walk.sign * (pulled * inputs.a[rows]).sum(1)  # sum_j slope_ij (a_i . r_j)
    if grads.a is not None and pulled is not None:
        grads.a[rows] += pulled * factor if walk.like_similarity else pulled
    if along is not None and grads.scale is not None:
        grads.scale[rows] += along


def _pull_bent(
    walk: Walk,
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
        along.index_add_(0, rows, pulls * bent.score, alpha=walk.sign)
    pulls = (pulls * _of_rows(scored.factor, rows))[:, None]
    if grad_a is not None:
        grad_a.index_add_(0, rows, pulls * bent.mine)
    if grad_r is not None:
        walk.geometry.place(grad_r, scored.memo, rows, cols, pulls * bent.theirs)


def _of_rows(factor: Tensor | float, rows: Tensor) -> Tensor | float:
    """The factor of each entry, by its row."""
    return factor[rows, 0] if isinstance(factor, Tensor) else factor


def _add_stats(stats: dict[str, Tensor], tile: Tile, offset: Tensor | None) -> None:
    """Sums and numbers of the scores of positives and of negatives, without the offset."""
    at = tile.positives
    scores = tile.scores.clone() if offset is None else tile.scores - offset
    drawn = scores[at.rows, at.cols]
    ones = torch.ones_like(drawn)
    positive, positives = tile.per_row(drawn), tile.per_row(ones)
    counted = tile.hide_ignored(0.0, scores).sum(1)
    found = {
        "positive_score": positive,
        "positives": positives,
        "negative_score": counted - positive,
        "negatives": tile.negatives_per_row(),
    }
    for name, value in found.items():
        stats[name] = stats[name] + value if name in stats else value


def _finish_stats(stats: dict[str, Tensor], walk: Walk, scale: Tensor | None, rows: slice) -> None:
    """Scores as they were before the scale, anchors that have negatives but no positive, and the scale itself."""
    of_rows = torch.full_like(stats["positive_score"], walk.scale) if scale is None else scale[rows].detach()
    nonzero = of_rows.where(of_rows != 0, 1)
    for name in ("positive_score", "negative_score"):
        stats[name] = stats[name] / nonzero
    positives, negatives = (sum_of(stats[name], walk.shards) for name in ("positives", "negatives"))
    of_anchors = {"lonely": (positives == 0) & (negatives > 0), "scale": of_rows, "rows": torch.ones_like(of_rows)}
    stats |= {name: value / walk.shards.size for name, value in of_anchors.items()}  # all shards meet all anchors
