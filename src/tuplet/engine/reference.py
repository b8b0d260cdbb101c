"""The slow twin of `stream`: the whole matrix at once, by autograd.

It has the same signature and gives the same numbers, can be differentiated twice, and shows in plain tensor code what a
reduction computes. Memory is O(anchors × references × dim).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.execution import Execution
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_reduce_sum, reduce_sum
from tuplet.engine.program import Pair, Program, reduced_rows
from tuplet.engine.reduction import Outcome, Reduction
from tuplet.geometry import Geometry, geometry_of, normalise
from tuplet.margin import Margin
from tuplet.relation import Relation
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName


def reference(
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
    of_row: Mapping[str, Tensor] | None = None,
    of_col: Mapping[str, Tensor] | None = None,
    execution: Execution | None = None,
) -> Outcome:
    """What `stream` returns, from all scores at once.

    Args:
        reduction: What a row becomes: a program, or a reduction, whose `plain` form is used.
        anchors: (anchors, dim).
        references: (references, dim).
        relation: Who is whose positive, negative or neither.
        geometry: "cosine", "dot", "euclidean" or "squared_euclidean".
        margin: Modifies the cosines of positives.
        scale: Multiplies scores.
        offset: Added to the scores of each reference.
        weights: One per anchor.
        tile_size: Without meaning here.
        processes: Who computes together.
        shards: Without meaning here.
        stats: Without meaning here.
        of_row: Values of anchors that a program names.
        of_col: Values of references that a program names.
        execution: Without meaning here.

    Returns:
        Sum of losses and what the mean divides by.
    """
    del tile_size, shards, stats, execution
    wide = wide_dtype(anchors, references)
    anchors, references = anchors.to(wide), references.to(wide)
    whole = slice(0, len(anchors)), slice(0, len(references))
    positive, negative = relation.masks(*whole)
    scores = _scores(anchors, references, geometry)
    if margin is not None:
        scores = torch.where(positive, _with_margin(margin, anchors, references, scores), scores)
    scores = _in_the_sense_of(scores, geometry_of(geometry), reduction.reads)
    scores = scores * (scale[:, None] if isinstance(scale, Tensor) and scale.ndim else scale)
    scores = scores if offset is None else scores + offset
    if isinstance(reduction, Program):
        pair = _pair(relation, positive, negative, offset, of_row or {}, of_col or {})
        return _finished(reduction, scores, pair, weights, processes)
    loss, count = reduction.plain(scores, positive, negative, relation.label_distances(*whole))
    if weights is not None:
        loss, count = loss * weights, count * weights
    return Outcome(reduce_sum(loss.sum(), processes), all_reduce_sum(count.double().sum(), processes))


def _in_the_sense_of(scores: Tensor, geometry: Geometry, reads: str) -> Tensor:
    """Similarities as distances, or the reverse, where a reduction reads the other."""
    return scores if geometry.kind == reads else geometry.similarity_offset - scores


def _pair(
    relation: Relation,
    positive: Tensor,
    negative: Tensor,
    offset: Tensor | None,
    of_row: Mapping[str, Tensor],
    of_col: Mapping[str, Tensor],
) -> Pair:
    """What is known of all pairs."""
    row, col = (torch.arange(n, device=positive.device) for n in positive.shape)
    return Pair(
        positive,
        negative,
        row[:, None] + (relation.first or 0),
        col[None],
        relation.label_distances(slice(0, relation.anchors), slice(0, relation.references)),
        offset,
        {name: x[:, None] for name, x in of_row.items()},
        {name: x[None] for name, x in of_col.items()},
    )


def _finished(program: Program, scores: Tensor, pair: Pair, weights: Tensor | None, processes: Processes) -> Outcome:
    """A program's terms of all pairs, reduced and finished by autograd."""
    if program.near:
        near = torch.where(pair.positive, scores, -torch.inf)
        pair = replace(pair, of_row={**pair.of_row, "near": near[:, None]})
    found = reduced_rows(program, scores, pair)
    found |= {name: x[:, 0] for name, x in pair.of_row.items()} | {name: x[0] for name, x in pair.of_col.items()}
    means = program.finish(found)
    sums = []
    for mean in means if isinstance(means, tuple) else (means,):
        w = weights if weights is not None and mean.over == "row" else torch.ones_like(mean.loss)
        count = all_reduce_sum((mean.count * w).double().sum(), processes if mean.over == "row" else SINGLE_PROCESS)
        sums.append((mean, (mean.loss * w).sum(), count))
    if len(sums) == 1:
        return Outcome(reduce_sum(sums[0][1], processes), sums[0][2])
    total = sums[0][1].new_zeros(())
    for mean, loss, count in sums:
        whole = reduce_sum(loss, processes) if mean.over == "row" else loss
        total = total + mean.share * whole / torch.where(count > 0, count, 1.0).to(loss.dtype)
    return Outcome(total, torch.ones_like(total, dtype=torch.float64))


def _scores(a: Tensor, r: Tensor, geometry: GeometryName | Geometry) -> Tensor:
    name = next((name for name in ("cosine", "dot") if geometry_of(name) == geometry_of(geometry)), None)
    if name is not None:
        return normalise(a) @ normalise(r).T if name == "cosine" else a @ r.T
    squares = (a[:, None, :] - r[None, :, :]).square().sum(-1)
    if geometry_of(geometry) == geometry_of("squared_euclidean"):
        return squares
    apart = squares > 0  # the root's derivative at 0 is set to 0; both branches have to stay finite
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


def _with_margin(margin: Margin, a: Tensor, r: Tensor, cosine: Tensor) -> Tensor:
    u, v = normalise(a)[:, None, :], normalise(r)[None, :, :]
    product = (u - v).square().sum(-1) * (u + v).square().sum(-1)
    there = product > 0
    sine = 0.5 * torch.where(there, torch.where(there, product, 1.0).sqrt(), 0.0)
    return margin(cosine, sine)[0]
