"""The pass over the matrix anchors × references, tile by tile, and its autograd function.

Gradients are accumulated during forward and only multiplied in backward, so nothing is kept but tensors of the inputs'
shapes.
"""

from typing import Any

import torch
from torch import Tensor

from tuplet.engine.block import Grads, Inputs, StreamConfig, stream_block
from tuplet.engine.execution import DEFAULT, Execution, uses_tiles
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_reduce_sum, reduce_sum
from tuplet.engine.once import multiplied, refuse_transforms
from tuplet.engine.program import Program
from tuplet.engine.reduction import Outcome, Reduction
from tuplet.engine.ring import Ring
from tuplet.engine.run import How, Terms, run
from tuplet.engine.symmetric import HALF_SIDE, stream_symmetric
from tuplet.engine.tiles import plan
from tuplet.errors import ShapeError
from tuplet.geometry import Geometry, geometry_of
from tuplet.margin import Margin
from tuplet.relation import Relation
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName


def stream(
    reduction: Reduction[Any] | Program,
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
    processes: Processes = SINGLE_PROCESS,
    shards: Processes = SINGLE_PROCESS,
    stats: bool = False,
    of_row: dict[str, Tensor] | None = None,
    of_col: dict[str, Tensor] | None = None,
    ring: Ring | None = None,
    execution: Execution | None = None,
) -> Outcome:
    r"""Reduce every row of anchors × references into a loss, exactly, without ever holding the matrix.

    $$L = \frac{\sum_i w_i \ell_i}{\sum_i w_i n_i}, \quad
    (\ell_i, n_i) = \mathrm{reduce}_j(s_i\,\mathrm{margin}(\mathrm{geometry}(a_i, r_j)) + \mathrm{offset}_j)$$

    Args:
        reduction: What a row becomes: a program, or a reduction that is written out for panels.
        anchors: (anchors, dim); those of this process.
        references: (references, dim); those of all processes. The same tensor for one set.
        relation: Who is whose positive, negative or neither.
        geometry: How two embeddings are compared.
        margin: Changes the cosines of positives.
        scale: Multiplies scores; a number, a tensor without shape, or one per anchor.
        offset: Added to the scores of each reference, (references,).
        weights: w, one per anchor, at least 0.
        tile_size: Most entries of a tile. The result does not depend on it but for rounding.
        processes: Who computes the loss together; losses and counts are summed over them.
        shards: Who has other references of the same anchors; each gets the whole outcome, and gradients of its part.
        stats: True to add mean scores of positives and negatives to what is returned.
        of_row: Values of anchors that a program names, (anchors,) or (anchors, k); differentiable.
        of_col: The same of references.
        ring: Processes that have a block of the references each, `references` being those of this one.
        execution: How it is carried out, see `Execution`.

    Returns:
        Sum of losses (differentiable), what the mean divides by, and statistics.
    """
    refuse_transforms()
    _check(anchors, references, relation, weights, offset, ring)
    terms = Terms(margin, scale, offset, weights, of_row or {}, of_col or {})
    how = How(tile_size, processes, shards, ring, anchors.dtype, execution or DEFAULT, stats=stats)
    anchors, references = _widened(anchors, references)
    with torch.autocast(anchors.device.type, enabled=False):
        if isinstance(reduction, Program) or uses_tiles(how.execution, anchors.device):
            return run(reduction, anchors, references, relation, geometry_of(geometry), terms, how)
        return _over_panels(reduction, anchors, references, relation, geometry_of(geometry), terms, how)


def _over_panels(
    reduction: Reduction[Any],
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    geometry: Geometry,
    terms: Terms,
    how: How,
) -> Outcome:
    """By a reduction that is written out, in panels that fit the caches of a CPU."""
    a, r = geometry.prepare(anchors, references)
    wide, scale, offset = a.dtype, terms.scale, terms.offset
    scale_rows = scale.to(wide).expand(len(a)) if isinstance(scale, Tensor) else None
    factor = 1.0 if isinstance(scale, Tensor) else float(scale)
    config = StreamConfig(
        reduction, relation, geometry, terms.margin, factor, terms.weights, how.tile_size, how.shards, how.stats
    )
    total, count, *sums = _Stream.apply(a, r, scale_rows, None if offset is None else offset.to(wide), config)  # type: ignore[no-untyped-call]
    found = {
        name: all_reduce_sum(all_reduce_sum(x, how.shards), how.processes)
        for name, x in zip(config.stat_names, sums, strict=True)
    }
    return Outcome(reduce_sum(total, how.processes), all_reduce_sum(count, how.processes), found)


class _Stream(torch.autograd.Function):
    """Forward computes the tiles and accumulates gradients; backward multiplies them by the incoming number."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, r: Tensor, scale: Tensor | None, offset: Tensor | None, config: StreamConfig
    ) -> Any:
        asked = ctx.needs_input_grad
        grads = Grads(
            *(
                torch.zeros_like(x) if x is not None and need else None
                for x, need in zip((a, r, scale, offset), asked, strict=False)
            )
        )
        half = _half(config, a, r, scale, offset)
        if half is not None:
            factor, shift = (
                config.sign * config.scale,
                config.geometry.similarity_offset * config.scale if config.negate_scores else 0.0,
            )
            partials = [
                stream_symmetric(half, a, config.relation, config.geometry, factor, shift, config.tile_size, grads.a)
            ]
            grads.r = None
        else:
            # shards differ in their references, but merge the same blocks of anchors
            narrow = config.geometry.narrow or config.shards.size > 1
            whole, work = config.reduction.whole_rows, config.reduction.work
            cuts = plan(len(a), len(r), config.tile_size, whole_rows=whole, work=work, narrow=narrow)
            partials = [stream_block(config, cuts, rows, Inputs(a, r, scale, offset), grads) for rows in cuts.rows]
        weights = config.weights
        loss = torch.cat([part.loss for part in partials]).double()
        count = torch.cat([part.count for part in partials]).double()
        if weights is not None:
            loss, count = loss * weights.double(), count * weights.double()
        config.stat_names = tuple(partials[0].stats)
        rows = [torch.cat([part.stats[name] for part in partials]).double() for name in config.stat_names]
        sums = [(row if weights is None else row * weights.double()).sum() for row in rows]
        ctx.save_for_backward(a, r, scale, offset, grads.a, grads.r, grads.scale, grads.offset)
        outputs = (loss.sum().to(a.dtype), count.sum(), *sums)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return (*multiplied(ctx.saved_tensors, grad), None)


def _half(
    config: StreamConfig, a: Tensor, r: Tensor, scale: Tensor | None, offset: Tensor | None
) -> Reduction[Any] | None:
    """The reduction for half of the tiles, if one set meets itself and nothing tells rows from columns."""
    if (
        config.relation.first != 0
        or r is not a
        or any(x is not None for x in (scale, offset, config.margin, config.weights))
    ):
        return None
    if config.stats or (config.tile_size is None and len(a) <= HALF_SIDE):
        return None
    peak = config.geometry.peak
    return config.reduction.symmetric(None if peak is None or config.negate_scores else peak * config.scale)


def _widened(anchors: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the accumulation type; one set stays one tensor."""
    wide = wide_dtype(anchors, references)
    wider = anchors.to(wide)
    return wider, wider if references is anchors else references.to(wide)


def _check(
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    weights: Tensor | None,
    offset: Tensor | None,
    ring: Ring | None,
) -> None:
    all_references = len(references) if ring is None else sum(ring.rows)
    found = (len(anchors), all_references, anchors.shape[-1], references.shape[-1])
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
