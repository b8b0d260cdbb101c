"""All triplets with the swap: the negative is compared with the positive too, whichever of the two it is nearer to.

The distance of positive and negative belongs to neither row of a triplet's anchor, so a pass over anchors × references
does not do. Here each positive pair has two rows of scores, that of its anchor and that of its positive, some pairs at
a time: O(pairs × references) time, and no more memory than a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Outcome, Processes
from tuplet.engine.gather import all_reduce_sum, gather, reduce_sum
from tuplet.engine.once import multiplied, refuse_transforms
from tuplet.engine.tiles import TILE_SIZE, spans
from tuplet.geometry import Geometry, geometry_of
from tuplet.losses.inputs import PairBatch
from tuplet.reductions import Triplet
from tuplet.relation import Relation
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName


@dataclass(frozen=True)
class _Problem:
    """All of a call but the tensors that have gradients."""

    reduction: Triplet
    relation: Relation
    geometry: Geometry
    weights: Tensor | None
    entries: int


def swapped(reduction: Triplet, problem: PairBatch, geometry: GeometryName) -> Outcome:
    r"""Every triplet with $\min(D_{an}, D_{pn})$ in the place of $D_{an}$.

    Args:
        reduction: Of all triplets; says margin, power, form and what the mean divides by.
        problem: Who is compared with whom.
        geometry: What D is.
    """
    refuse_transforms()
    options = problem.stream_options
    processes: Processes = options.get("processes", SINGLE_PROCESS)
    references = problem.references
    if "ring" in options:  # the positives of an anchor may be in any block
        references = gather(references, processes)
    wide = wide_dtype(problem.anchors, references)
    with torch.autocast(problem.anchors.device.type, enabled=False):
        compared = geometry_of(geometry)
        anchors = problem.anchors.to(wide)
        a, r = compared.prepare(anchors, anchors if references is problem.anchors else references.to(wide))
        asked = _Problem(reduction, problem.relation, compared, problem.weights, options.get("tile_size") or TILE_SIZE)
        total, count, active, triplets = _Swapped.apply(a, r, asked)  # type: ignore[no-untyped-call]
    found = {"active": active, "triplets": triplets} if options.get("stats") else {}
    sums = {name: all_reduce_sum(value, processes) for name, value in found.items()}
    return Outcome(reduce_sum(total, processes), all_reduce_sum(count, processes), sums)


class _Swapped(torch.autograd.Function):
    """Forward accumulates the gradients, backward multiplies them."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, problem: _Problem) -> Any:
        grad_a, grad_r = (
            torch.zeros_like(x) if need else None for x, need in zip((a, r), ctx.needs_input_grad, strict=False)
        )
        sums = a.new_zeros(4, dtype=torch.float64)
        counted = a.new_zeros(len(a), dtype=torch.bool)  # anchors that have a triplet
        for rows, positives, weight, negative in _pairs(problem, a):
            loss, active = _reduce(problem, (a, r), (rows, positives), negative, weight, (grad_a, grad_r))
            each = weight.double()
            triplets = negative.sum(1)
            first = (triplets > 0) & ~counted[rows] & _is_first(rows)
            counted[rows[triplets > 0]] = True
            share = {"active": active, "all": triplets, "anchors": first}[problem.reduction.mean_over]
            sums += torch.stack([(x.double() * each).sum() for x in (loss, share, active, triplets)])
        ctx.save_for_backward(a, r, grad_a, grad_r)
        total, count, active, triplets = sums.unbind()
        outputs = total.to(a.dtype), count.clone(), active.clone(), triplets.clone()
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return (*multiplied(ctx.saved_tensors, grad), None)


def _pairs(problem: _Problem, a: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Some positive pairs at a time: anchors, positives, weights of the anchors, and the anchors' negatives."""
    relation, width = problem.relation, problem.relation.references
    size = max(1, problem.entries // max(1, width))
    for block in spans(relation.anchors, size):
        positive, negative = relation.masks(block, slice(0, width))
        rows, cols = positive.nonzero(as_tuple=True)
        for some in spans(len(rows), size):
            here = rows[some] + block.start
            weight = torch.ones_like(here, dtype=a.dtype) if problem.weights is None else problem.weights[here]
            yield here, cols[some], weight, negative[rows[some]]


def _reduce(
    problem: _Problem,
    sets: tuple[Tensor, Tensor],
    pairs: tuple[Tensor, Tensor],
    negative: Tensor,
    weight: Tensor,
    grads: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Losses of some positive pairs, how many of their triplets have one, and their gradients, which are added."""
    (a, r), (rows, cols), (grad_a, grad_r) = sets, pairs, grads
    geometry, reduction = problem.geometry, problem.reduction
    sign = 1.0 if geometry.kind == "distance" else -1.0
    mine, theirs = a[rows], r[cols]
    by_anchor, by_positive = a.new_empty(len(rows), len(r)), a.new_empty(len(rows), len(r))
    memos = geometry.scores(mine, r, by_anchor), geometry.scores(theirs, r, by_positive)
    at = torch.arange(len(rows), device=a.device)
    from_anchor, from_positive = by_anchor * sign, by_positive * sign
    near, far = from_anchor[at, cols, None], torch.minimum(from_anchor, from_positive)
    z = torch.where(negative, near - far, -torch.inf)
    loss, steep = reduction.term(z)
    active = negative if reduction.soft else loss > 0
    steep = torch.where(negative, steep, 0.0) * (weight[:, None] * sign)
    # where both are as near, each has half of the gradient, as torch.minimum has it
    share = torch.where(from_anchor == from_positive, 0.5, (from_anchor < from_positive).to(steep))
    if grad_a is not None or grad_r is not None:
        to_anchor = -(steep * share)
        to_anchor[at, cols] += steep.sum(1)
        for entry_grads, memo, rows_of, home, where in (
            (to_anchor, memos[0], mine, grad_a, rows),
            (-(steep * (1 - share)), memos[1], theirs, grad_r, cols),
        ):
            own = None if home is None else torch.zeros_like(rows_of)
            geometry.backward(entry_grads, memo, rows_of, r, own, grad_r)
            if home is not None and own is not None:
                home.index_add_(0, where, own)
    return loss.sum(1), active.sum(1)


def _is_first(rows: Tensor) -> Tensor:
    """Where an anchor is met for the first time; rows come in order."""
    return torch.cat([torch.ones_like(rows[:1], dtype=torch.bool), rows[1:] != rows[:-1]])
