"""One block of anchors against all references: scores, reduction, gradients."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.gather import Processes, all_reduce_sum
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.engine.tiles import KEPT, Plan
from tuplet.geometry import Geometry
from tuplet.margin import Margin, MarginGrad, apply_margin
from tuplet.relation import Relation


@dataclass
class StreamConfig:
    """Configuration of a pass: all but the tensors that have gradients."""

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
    def negate_scores(self) -> bool:
        """True if the reduction reads distances of a similarity or the reverse."""
        return self.geometry.kind != self.reduction.reads

    @property
    def sign(self) -> float:
        """What turning does to a score."""
        return -1.0 if self.negate_scores else 1.0

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
    """Gradients accumulated so far; None where none is required."""

    a: Tensor | None
    r: Tensor | None
    scale: Tensor | None
    offset: Tensor | None

    @property
    def needed(self) -> bool:
        """True if any gradient is required."""
        return any(grad is not None for grad in (self.a, self.r, self.scale, self.offset))


@dataclass
class _Scored:
    """A tile with what its backward pass needs."""

    tile: Tile
    memo: Any
    a: Tensor  # anchors of the tile, multiplied by the factor if the geometry allows it
    factor: Tensor | float
    margin_grad: MarginGrad | None
    raw: Tensor | None  # scores before the factor, kept only for a learned factor of distances


def stream_block(config: StreamConfig, cuts: Plan, rows: slice, inputs: Inputs, grads: Grads) -> Partial:
    """All tiles of one block of anchors: update, finish, grad_scores."""
    reduction = config.reduction
    is_scored_again = grads.needed and not reduction.local
    tiles = _Tiles(config, cuts, rows, inputs, KEPT if is_scored_again and reduction.passes == 1 else 0)
    state = reduction.start(inputs.a, rows)
    stats: dict[str, Tensor] = {}
    for step in range(reduction.passes):
        for cols in cuts.cols:
            scored = tiles.at(cols)
            if config.stats and step == 0:
                _add_stats(stats, scored.tile, None if inputs.offset is None else inputs.offset[cols])
            reduction.update(step, state, scored.tile)
            if grads.needed and reduction.local:
                _backward(config, scored, reduction.grad_scores(state, scored.tile), inputs, grads)
    if config.shards.size > 1:
        state = reduction.merge(state, config.shards)
    partial = reduction.finish(state)
    for cols in cuts.cols if is_scored_again else ():
        scored = tiles.at(cols)
        _backward(config, scored, reduction.grad_scores(state, scored.tile), inputs, grads)
    if config.stats:
        _finish_stats(stats, config, inputs.scale, rows)
    return Partial(partial.loss, partial.count, {**partial.stats, **stats})


class _Tiles:
    """Tiles of a block: those that there is room for are scored once and stay, the others share their memory."""

    def __init__(self, config: StreamConfig, cuts: Plan, rows: slice, inputs: Inputs, room: int) -> None:
        self.config, self.rows, self.inputs = config, rows, inputs
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
            self.kept[cols.start] = scored = _score(self.config, self.rows, cols, self.inputs, out, kept=True)
            return scored
        if self.shared is None:
            self.shared = self.inputs.a.new_empty(self.height * self.width)
        out = self.shared[: self.height * width].view(self.height, width)
        return _score(self.config, self.rows, cols, self.inputs, out, kept=False)


def _score(config: StreamConfig, rows: slice, cols: slice, inputs: Inputs, out: Tensor, *, kept: bool) -> _Scored:
    """Scores of one tile, in the sense the reduction reads them."""
    a, r, scale = inputs.a[rows], inputs.r[cols], inputs.scale
    tile = Tile(out, rows, cols, config.relation, kept, config.stats)
    factor: Tensor | float = config.sign * (config.scale if scale is None else scale[rows, None])
    scaled = isinstance(factor, Tensor) or factor != 1.0
    mine, margin_grad, raw = a, None, None
    if config.like_similarity:
        mine = a * factor if scaled else a
        memo = config.geometry.scores(mine, r, out)
    else:
        memo = config.geometry.scores(mine, r, out)
        raw = out.clone() if scale is not None and scale.requires_grad else None
        if scaled:
            out.mul_(factor)
    if config.margin is not None:
        at = tile.positives
        margin_grad = apply_margin(config.margin, at, a, config.geometry.pick(r, memo, at.rows, at.cols))
        out[at.rows, at.cols] = margin_grad.score * _of_rows(factor, at.rows)
    if config.negate_scores and config.geometry.similarity_offset:
        out.add_(config.geometry.similarity_offset * (config.scale if scale is None else scale[rows, None]))
    if inputs.offset is not None:
        out.add_(inputs.offset[cols])
    return _Scored(tile, memo, mine, factor, margin_grad, raw)


def _backward(config: StreamConfig, scored: _Scored, grad_scores: Tensor, inputs: Inputs, grads: Grads) -> None:
    """Turn the score gradients of a tile into gradients."""
    rows, cols, factor = scored.tile.rows, scored.tile.cols, scored.factor
    if config.weights is not None:
        grad_scores = grad_scores.mul_(config.weights[rows, None].to(grad_scores.dtype))
    if grads.offset is not None:
        grads.offset[cols] += grad_scores.sum(0)
    along = None if grads.scale is None else grad_scores.new_zeros(rows.stop - rows.start)
    if along is not None and config.negate_scores and config.geometry.similarity_offset:
        along += config.geometry.similarity_offset * grad_scores.sum(1)
    grad_r = None if grads.r is None else grads.r[cols]
    if scored.margin_grad is not None:
        _backward_margin(
            config, scored, scored.margin_grad, grad_scores, None if grads.a is None else grads.a[rows], grad_r, along
        )
    if not config.like_similarity:
        if along is not None and scored.raw is not None:
            along += config.sign * (grad_scores * scored.raw).sum(1)
        grad_scores = grad_scores.mul_(factor) if isinstance(factor, Tensor) or factor != 1.0 else grad_scores
    need_a = grads.a is not None or (along is not None and config.like_similarity)
    grad_scaled = torch.zeros_like(scored.a) if need_a else None
    config.geometry.backward(grad_scores, scored.memo, scored.a, inputs.r[cols], grad_scaled, grad_r)
    if along is not None and grad_scaled is not None and config.like_similarity:
        along += config.sign * (grad_scaled * inputs.a[rows]).sum(1)  # sum_j grad_ij (a_i . r_j)
    if grads.a is not None and grad_scaled is not None:
        grads.a[rows] += grad_scaled * factor if config.like_similarity else grad_scaled
    if along is not None and grads.scale is not None:
        grads.scale[rows] += along


def _backward_margin(
    config: StreamConfig,
    scored: _Scored,
    margin_grad: MarginGrad,
    grad_scores: Tensor,
    grad_a: Tensor | None,
    grad_r: Tensor | None,
    along: Tensor | None,
) -> None:
    """Take the entries with a margin out of `grad_scores`; their gradient is along their tangents."""
    rows, cols = margin_grad.at.rows, margin_grad.at.cols
    entry_grads = grad_scores[rows, cols]
    grad_scores[rows, cols] = 0
    if along is not None:
        along.index_add_(0, rows, entry_grads * margin_grad.score, alpha=config.sign)
    entry_grads = (entry_grads * _of_rows(scored.factor, rows))[:, None]
    if grad_a is not None:
        grad_a.index_add_(0, rows, entry_grads * margin_grad.mine)
    if grad_r is not None:
        config.geometry.place(grad_r, scored.memo, rows, cols, entry_grads * margin_grad.theirs)


def _of_rows(factor: Tensor | float, rows: Tensor) -> Tensor | float:
    """The factor of each entry, by its row."""
    return factor[rows, 0] if isinstance(factor, Tensor) else factor


def _add_stats(stats: dict[str, Tensor], tile: Tile, offset: Tensor | None) -> None:
    """Sums and numbers of the scores of positives and of negatives, without the offset."""
    at = tile.positives
    scores = tile.scores.clone() if offset is None else tile.scores - offset
    positive_scores = scores[at.rows, at.cols]
    ones = torch.ones_like(positive_scores)
    positive, positives = tile.per_row(positive_scores), tile.per_row(ones)
    counted = tile.hide_ignored(0.0, scores).sum(1)
    found = {
        "positive_score": positive,
        "positives": positives,
        "negative_score": counted - positive,
        "negatives": tile.negatives_per_row(),
    }
    for name, value in found.items():
        stats[name] = stats[name] + value if name in stats else value


def _finish_stats(stats: dict[str, Tensor], config: StreamConfig, scale: Tensor | None, rows: slice) -> None:
    """Scores as they were before the scale, anchors that have negatives but no positive, and the scale itself."""
    of_rows = torch.full_like(stats["positive_score"], config.scale) if scale is None else scale[rows].detach()
    nonzero = of_rows.where(of_rows != 0, 1)
    for name in ("positive_score", "negative_score"):
        stats[name] = stats[name] / nonzero
    positives, negatives = (all_reduce_sum(stats[name], config.shards) for name in ("positives", "negatives"))
    of_anchors = {
        "anchors_without_positives": (positives == 0) & (negatives > 0),
        "scale": of_rows,
        "rows": torch.ones_like(of_rows),
    }
    stats |= {name: value / config.shards.size for name, value in of_anchors.items()}  # all shards meet all anchors
