"""The same reduction where rows come in groups, each of which meets a set of references of its own.

Latents of one time are distinguished, for every time and every horizon: many small matrices at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.execution import DEFAULT, Execution
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_reduce_sum, reduce_sum
from tuplet.engine.listed import add_rows, named_sums
from tuplet.engine.once import multiplied, refuse_transforms
from tuplet.engine.reduction import Outcome, Reduction
from tuplet.engine.rowcode import row_code, scores_at_hand
from tuplet.engine.tiles import spans
from tuplet.relation import Paired
from tuplet.tensors import wide_dtype


@dataclass(frozen=True)
class Groups:
    """Who meets whom.

    Args:
        mine: Which anchors a group has: positions among their sets, (groups,).
        theirs: Which references: positions among their sets, (groups,).
        partner: Position of each anchor's positive in the references of its group, -1 for none; (groups, rows).
        there: Which references exist, (sets of references, cols); None for all.
        weights: One per anchor, (groups, rows), or None.
    """

    mine: Tensor
    theirs: Tensor
    partner: Tensor
    there: Tensor | None = None
    weights: Tensor | None = None


def grouped(
    reduction: Reduction[Any],
    anchors: Tensor,
    references: Tensor,
    groups: Groups,
    *,
    processes: Processes = SINGLE_PROCESS,
    stats: bool = False,
    execution: Execution | None = None,
) -> Outcome:
    """Reduce the inner products of each anchor with the references of its group to a loss.

    Args:
        reduction: What a row of scores becomes; it reads similarities.
        anchors: Sets of anchors, (sets, rows, dim).
        references: Sets of references, (sets, cols, dim).
        groups: Who meets whom.
        processes: Who computes the loss together.
        stats: True to add mean scores of positives and negatives to what is returned.
        execution: How it is carried out, see `Execution`.

    Returns:
        Sum of losses (differentiable), what the mean divides by, and statistics.
    """
    refuse_transforms()
    wide = wide_dtype(anchors, references)
    with torch.autocast(anchors.device.type, enabled=False):
        total, count, sums = _Grouped.apply(  # type: ignore[no-untyped-call]
            anchors.to(wide), references.to(wide), reduction, groups, stats, execution or DEFAULT
        )
    found = named_sums(all_reduce_sum(sums, processes), 1.0) if stats else {}
    return Outcome(reduce_sum(total, processes), all_reduce_sum(count, processes), found)


class _Grouped(torch.autograd.Function):
    """Some groups at a time, or some rows of one: products, and what a reduction makes of whole rows."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, r: Tensor, reduction: Reduction[Any], groups: Groups, stats: bool, execution: Execution
    ) -> Any:
        grad_a, grad_r = (
            torch.zeros_like(x) if need else None for x, need in zip((a, r), ctx.needs_input_grad, strict=False)
        )
        _, _, compare = Paired.diagonal(0, device=a.device).keys()
        total, count = a.new_zeros((), dtype=torch.float64), a.new_zeros((), dtype=torch.float64)
        sums = a.new_zeros(5, dtype=torch.float64)
        (rows, dim), cols = a.shape[1:], r.shape[1]
        code = row_code(reduction, compare, a, groups.partner.numel() * cols, execution)
        most = scores_at_hand(a, execution)
        together = max(1, most // max(1, cols * max(rows, dim)))
        for some in spans(len(groups.mine), together) if a.numel() and cols else ():
            mine, theirs = groups.mine[some], groups.theirs[some]
            r_here = r[theirs]
            there = None if groups.there is None else groups.there[theirs][:, None]
            for span in spans(rows, rows if together > 1 else max(1, most // cols)):
                a_here = a[mine, span]
                scores = torch.bmm(a_here, r_here.transpose(1, 2))
                relation = Paired(groups.partner[some, span].flatten(), cols)
                weights = None if groups.weights is None else groups.weights[some, span].flatten()
                if stats:
                    sums += _sums(scores, relation, there, weights)
                if there is not None:
                    scores = scores.masked_fill_(~there, -torch.inf)
                loss, number, grad_scores = code(scores.flatten(0, 1), relation)
                if weights is not None:
                    loss, number = loss * weights, number * weights
                    grad_scores = grad_scores * weights[:, None].to(grad_scores)
                total, count = total + loss.sum(dtype=torch.float64), count + number.sum(dtype=torch.float64)
                grad_scores = grad_scores.view(scores.shape)
                if grad_a is not None:
                    add_rows(grad_a[:, span], mine, torch.bmm(grad_scores, r_here))
                if grad_r is not None:
                    add_rows(grad_r, theirs, torch.bmm(grad_scores.transpose(1, 2), a_here))
        ctx.save_for_backward(a, r, grad_a, grad_r)
        outputs = (total.to(a.dtype), count, sums)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return (*multiplied(ctx.saved_tensors, grad), None, None, None, None)


def _sums(scores: Tensor, relation: Paired, there: Tensor | None, weights: Tensor | None) -> Tensor:
    """Scores and number of positives, the same of negatives, and number of rows, (5,)."""
    positive, negative = relation.masks(slice(0, relation.anchors), slice(0, relation.references))
    if there is not None:
        negative = negative & there.expand(scores.shape).flatten(0, 1)
    flat = scores.flatten(0, 1)
    parts = [part for mask in (positive, negative) for part in (torch.where(mask, flat, 0.0).sum(1), mask.sum(1))]
    each = torch.stack([x.to(flat) for x in (*parts, torch.ones_like(parts[0]))]).double()
    return (each if weights is None else each * weights.double()).sum(1)
